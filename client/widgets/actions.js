/**
 * The buttons of a message: links, and calls to the page's own site. A page loads it with the first such message.
 *
 * Owns: that a call stays on the site, and carries its CSRF token. Must not know: stores, which widget shows them.
 */

import { el, icon, labelled, link, parsed } from "./dom.js";

/** @typedef {import("../types.js").Action} Action */

/**
 * @param {Action[]} actions
 * @param {import("./base.js").Widget} widget  reports a call that failed
 * @param {() => void} [done]  the user followed a link, or a call was answered
 */
export function actionsOf(actions, widget, done = () => {}) {
  const buttons = actions.map((action) =>
    action.method === "POST" ? caller(action, widget, done) : opener(action, done),
  );
  return el("div", { part: "actions", class: "note" }, ...buttons);
}

/**
 * A link, in the same tab if it stays on the site.
 *
 * @param {{url?: string | null, text: string}} action
 * @param {() => void} done
 */
export function opener({ url, text }, done) {
  const target = link(url, text);
  if (target?.origin === location.origin) target.removeAttribute("target");
  target?.addEventListener("click", done);
  return target;
}

/** @param {Action} action @param {import("./base.js").Widget} widget @param {() => void} done */
function caller({ url, text }, widget, done) {
  const target = parsed(url);
  if (target?.origin !== location.origin) return null;
  let isDone = false;
  const call = async () => {
    isDone = true;
    try {
      const answer = await fetch(target, { method: "POST", headers: { "X-CSRFToken": csrfToken() } });
      if (!answer.ok) throw Object.assign(new Error(`${answer.status}`), { status: answer.status });
    } catch (error) {
      isDone = false;
      throw error;
    }
    element.ariaDisabled = "true";
    element.prepend(icon("read"));
    done();
  };
  const element = labelled(text, () => isDone || widget.attempt(undefined, call));
  return element;
}

/** Django's token: of a form in the page, else its cookie. */
function csrfToken() {
  const input = /** @type {HTMLInputElement | null} */ (document.querySelector("[name=csrfmiddlewaretoken]"));
  return input?.value ?? /(?:^|; )csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}
