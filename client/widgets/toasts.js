/**
 * `<notifier-toasts>`: pop-ups for what comes. They wait while they are looked at, and many at once are told as one.
 *
 * Owns: the stack. Must not know: lists of messages and tasks.
 */

import { button, el, link, say, statusOf, Widget } from "./base.js";

/** @typedef {import("../types.js").Level} Level */
/** @typedef {import("../types.js").News} News */

const STAY_MS = 6000;
const MOST = 4; // one more, and the oldest goes
const STORM = 3; // more messages than these in one go are told as a number
const GATHER_MS = 100;

export class NotifierToasts extends Widget {
  static css = `
    :host { position: fixed; inset-block-end: 1rem; inset-inline-end: 1rem; inline-size: min(22rem, calc(100vw - 2rem)); z-index: var(--notifier-z, 1000); }
    [part=toast] { display: flex; gap: 0.5rem; margin-block-start: 0.5rem; padding: 0.7rem 0.8rem; background: var(--_surface);
      border: 1px solid var(--_line); border-inline-start: 4px solid var(--_level); border-radius: 8px; box-shadow: 0 4px 16px #0003; }
    .body { flex: 1; min-inline-size: 0; overflow-wrap: anywhere; }
    .text { max-block-size: 6lh; overflow: hidden; }
    .info, .debug { --_level: var(--_accent); } .success { --_level: light-dark(#1b7f3b, #6fd08c); }
    .warning { --_level: light-dark(#a86400, #f2b950); } .error { --_level: var(--_error); }`;

  /** @param {import("./base.js").Store} store */
  start(store) {
    this.polite = el("div", { role: "status", part: "stack" });
    this.urgent = el("div", { role: "alert", part: "stack" });
    this.root.append(el("div", { role: "region", "aria-label": say("notifications") }, this.urgent, this.polite));
    /** @type {import("../types.js").Message[]} */
    let gathered = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const told = () => {
      timer = undefined;
      const late = gathered;
      gathered = [];
      if (late.length > STORM) return this.show("info", say("away", { n: late.length }));
      for (const { level, from, subject, text, url } of late) {
        this.show(level, `${from?.name ?? from?.id ?? say("system")}: ${subject}`, text, link(url));
      }
    };
    const failed = (/** @type {Event} */ event) => this.show("error", say("failed"), /** @type {CustomEvent} */ (event).detail?.message);
    document.addEventListener("notifier:failed", failed);
    this.ends.push(
      store.onNews((news) => {
        if (news.kind === "task") return this.task(news.task);
        gathered.push(news.message);
        timer ??= setTimeout(told, GATHER_MS); // a replay comes in one go
      }),
      () => clearTimeout(timer),
      () => document.removeEventListener("notifier:failed", failed),
    );
  }

  /** @param {import("../types.js").Task} task */
  task(task) {
    /** @type {Partial<Record<import("../types.js").TaskStatus, Level>>} */
    const levels = { succeeded: "success", failed: "error", cancelled: "warning" };
    this.show(levels[task.status] ?? "info", `${task.name}: ${statusOf(task)}`, task.error ?? task.state);
  }

  /**
   * @param {Level} level
   * @param {string} title
   * @param {string} [text]
   * @param {Node | null} [action]
   */
  show(level, title, text = "", action = null) {
    const stack = level === "error" || level === "warning" ? this.urgent : this.polite;
    const one = el("div", { class: level, part: "toast" },
      el("div", { class: "body" }, el("strong", { part: "title" }, title), text ? el("p", { class: "text", part: "text" }, text) : null, action),
      button("×", say("close"), () => one.remove()));
    stack?.append(one);
    const all = this.root.querySelectorAll("[part=toast]");
    if (all.length > MOST) all[0].remove();
    this.stay(one);
  }

  /** It goes by itself, but not from under a pointer or the focus. @param {HTMLElement} one */
  stay(one) {
    /** @type {ReturnType<typeof setTimeout>} */
    let timer;
    const wait = () => {
      clearTimeout(timer);
      if (!one.matches(":hover, :focus-within")) timer = setTimeout(() => one.remove(), STAY_MS);
    };
    for (const type of ["pointerenter", "pointerleave", "focusin"]) one.addEventListener(type, wait);
    one.addEventListener("focusout", () => setTimeout(wait));
    wait();
  }
}

customElements.get("notifier-toasts") ?? customElements.define("notifier-toasts", NotifierToasts);
