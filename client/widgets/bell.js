/**
 * `<notifier-bell>`: a bell with the number of unread messages; it opens the inbox.
 *
 * Owns: button and panel. Must not know: how messages are listed, tasks, pop-ups.
 */

import { el, icon, say, Widget } from "./base.js";
import { define } from "./element.js";
import { INBOX_CSS, inbox } from "./inbox.js";
import { askToNotify, mayAsk } from "./notify.js";

const EDGE = 8; // pixels between panel and window

export class NotifierBell extends Widget {
  static css = `${INBOX_CSS}
    :host(:not([hidden])) { display: inline-block; position: relative; }
    [part=bell] { position: relative; min-inline-size: 2.5rem; min-block-size: 2.5rem; padding: 0.4rem; }
    [part=bell] svg { inline-size: 1.4rem; block-size: 1.4rem; }
    [part=badge] { position: absolute; inset-block-start: 0; inset-inline-end: 0; min-inline-size: 1.15rem; padding-inline: 0.25rem; border-radius: 1rem;
      border: 1px solid transparent; background: light-dark(#b3261e, #c8372e); color: #fff; font-size: 0.7rem; line-height: 1.15rem; }
    [part=panel] { position: absolute; inset-inline-end: 0; inset-block-start: 100%; z-index: var(--notifier-z, 1000); inline-size: min(24rem, calc(100vw - 2rem));
      max-block-size: min(32rem, 80vh); overflow: auto; padding: 0.75rem; background: var(--_surface); border: 1px solid var(--_line); border-radius: 10px; box-shadow: 0 8px 28px #0003; }`;

  /** @param {import("./base.js").Store} store */
  start(store) {
    const badge = el("span", { part: "badge", "aria-hidden": "true" });
    const bell = el("button", { type: "button", part: "bell", "aria-haspopup": "dialog" }, icon("bell"), badge);
    const live = el("div", { class: "sr", role: "status" });
    let words = "";
    const { title, parts } = inbox(this, store, (isDim, next) => {
      bell.classList.toggle("dim", isDim);
      bell.title = next;
      if (next !== words) live.textContent = next; // the same words would be announced again
      words = next;
    });
    const notify = el("button", { type: "button", part: "button" }, say("notify"));
    const panel = el("div", { part: "panel", role: "dialog", "aria-label": say("messages") }, ...parts, notify);
    this.root.append(bell, panel, live);

    const open = (/** @type {boolean} */ yes) => {
      panel.hidden = !yes;
      notify.hidden = !mayAsk();
      bell.setAttribute("aria-expanded", String(yes));
      panel.style.translate = "none";
      const { left, right } = panel.getBoundingClientRect(); // keeps the whole panel inside the window
      panel.style.translate = `${Math.max(EDGE - left, 0) || Math.min(innerWidth - EDGE - right, 0)}px`;
    };
    open(false);
    bell.addEventListener("click", () => {
      open(Boolean(panel.hidden));
      if (!panel.hidden) title.focus();
    });
    notify.addEventListener("click", async () => {
      title.focus();
      await askToNotify();
      notify.hidden = !mayAsk();
    });
    const pressed = (/** @type {KeyboardEvent} */ { key }) => {
      if (key !== "Escape" || panel.hidden) return;
      open(false);
      bell.focus();
    };
    const outside = (/** @type {Event} */ event) => {
      if (!event.composedPath().includes(this)) open(false);
    };
    panel.addEventListener("keydown", pressed);
    bell.addEventListener("keydown", pressed);
    document.addEventListener("pointerdown", outside);

    /** @type {number | null} */
    let before = null;
    this.ends.push(
      () => document.removeEventListener("pointerdown", outside),
      store.subscribe(({ unread, loaded, failed }) => {
        const isKnown = loaded || unread > 0;
        const label = isKnown ? say("unread", { n: unread }) : say(failed ? "notLoaded" : "loading");
        bell.setAttribute("aria-busy", String(!isKnown && !failed));
        bell.setAttribute("aria-label", `${say("messages")}. ${label}`);
        if (before !== null && unread > before) live.textContent = label;
        before = loaded ? unread : null;
        badge.hidden = !unread;
        badge.textContent = unread > 99 ? "99+" : String(unread);
      }),
    );
  }
}

define("notifier-bell", NotifierBell);
