/**
 * What a widget shows in the place of its content: while it is loaded, when it could not be, and when there is none.
 *
 * Owns: these three. Must not know: what the content is.
 */

import { el, icon, labelled } from "./dom.js";
import { say } from "./texts.js";

export const PLACEHOLDER_CSS = `
  [part=skeleton] { display: grid; gap: 0.75rem; padding-block: 0.75rem; }
  [part=skeleton] i { block-size: 0.8rem; border-radius: 0.4rem; background: var(--_line); animation: breathe 1.4s infinite alternate; }
  [part=skeleton] i:nth-child(even) { inline-size: 60%; }
  @keyframes breathe { to { opacity: 0.4; } }
  [part=empty], [part=failed] { display: flex; align-items: center; gap: 0.6rem; margin: 0; padding-block: 0.9rem; }
  [part=failed] button { color: var(--_accent); }
  [part=empty] .icon, [part=failed] .icon { margin: 0; }`;

/**
 * The element, and a function that shows what fits.
 *
 * @param {"none" | "noTasks"} empty  the sentence where there is nothing
 * @param {string} shape  the name of its picture
 * @param {() => unknown} reload
 * @param {HTMLElement} content  is busy while it is loaded
 * @param {number} [rows]  of the skeleton
 */
export function placeholder(empty, shape, reload, content, rows = 5) {
  const skeleton = el("div", { part: "skeleton" }, el("span", { class: "sr" }, say("loading")));
  for (let n = 0; n < rows; n += 1) skeleton.append(el("i"));
  const reason = el("span");
  const none = el("p", { part: "empty", class: "muted" }, icon(shape), reason);
  const failed = el(
    "p",
    { part: "failed", class: "muted" },
    icon("error", "error level"),
    el("span", {}, say("notLoaded")),
  );
  failed.append(labelled(say("retry"), reload));
  const box = el("div", { part: "placeholder" });

  /**
   * @param {boolean} isLoaded
   * @param {boolean} hasFailed
   * @param {number} count  of items
   * @param {"none" | "noTasks" | "nothing"} words  the sentence where there is nothing
   */
  function show(isLoaded, hasFailed, count, words = empty) {
    reason.textContent = say(words);
    const isBusy = !isLoaded && !hasFailed;
    content.ariaBusy = String(isBusy);
    const shown = isBusy ? skeleton : isLoaded ? (count ? null : none) : failed;
    if (box.firstChild !== shown) box.replaceChildren(...(shown ? [shown] : []));
  }

  return { box, show };
}
