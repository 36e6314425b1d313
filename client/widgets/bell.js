/**
 * `<notifier-bell>`: a bell with the number of unread messages; it opens the inbox.
 *
 * Owns: button and panel. Must not know: tasks, pop-ups.
 */

import { button, el, keepInStep, link, say, timeElement, Widget } from "./base.js";

/** @typedef {import("../types.js").Message} Message */

const EDGE = 8; // pixels between panel and window

export class NotifierBell extends Widget {
  static css = `
    :host(:not([hidden])) { display: inline-block; position: relative; }
    [part=bell] { position: relative; min-inline-size: 2.5rem; min-block-size: 2.5rem; padding: 0.4rem; }
    svg { inline-size: 1.4rem; block-size: 1.4rem; fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linejoin: round; display: block; margin: auto; }
    [part=badge] { position: absolute; inset-block-start: 0; inset-inline-end: 0; min-inline-size: 1.15rem; padding-inline: 0.25rem; border-radius: 1rem;
      border: 1px solid transparent; background: light-dark(#b3261e, #c8372e); color: #fff; font-size: 0.7rem; line-height: 1.15rem; }
    [part=panel] { position: absolute; inset-inline-end: 0; inset-block-start: 100%; z-index: var(--notifier-z, 1000); inline-size: min(24rem, calc(100vw - 2rem));
      max-block-size: min(32rem, 80vh); overflow: auto; padding: 0.75rem; background: var(--_surface); border: 1px solid var(--_line); border-radius: 10px; box-shadow: 0 8px 28px #0003; }
    h2 { font-size: 1rem; margin: 0; }
    li { padding: 0.6rem; border-block-start: 1px solid var(--_line); border-inline-start: 3px solid transparent; }
    li.unread { border-inline-start-color: var(--_accent); }
    li.unread [part=subject] { font-weight: 600; }
    [part=subject] { overflow-wrap: anywhere; }`;

  /** @param {import("./base.js").Store} store */
  start(store) {
    /** @type {Map<string, HTMLElement>} */
    const rows = new Map();
    const badge = el("span", { part: "badge", "aria-hidden": "true" });
    const bell = el("button", { type: "button", part: "bell", "aria-haspopup": "dialog" }, icon(), badge);
    const title = el("h2", { id: "title", tabindex: "-1" }, say("messages"));
    const all = el("button", { type: "button", part: "button" }, say("readAll"));
    const list = el("ol", { part: "list" });
    const none = el("p", { part: "empty", class: "muted" }, say("none"));
    const more = el("button", { type: "button", part: "more" }, say("more"));
    const panel = el("div", { part: "panel", role: "dialog", "aria-labelledby": "title" }, el("div", { class: "line" }, title, all), list, none, more);
    const live = el("div", { class: "sr", role: "status" });
    this.root.append(bell, panel, live);

    const open = (/** @type {boolean} */ yes) => {
      panel.hidden = !yes;
      bell.setAttribute("aria-expanded", String(yes));
      panel.style.translate = "none";
      const { left, right } = panel.getBoundingClientRect(); // wherever the bell stands, all of the panel is in sight
      panel.style.translate = `${Math.max(EDGE - left, 0) || Math.min(innerWidth - EDGE - right, 0)}px`;
    };
    open(false);
    bell.addEventListener("click", () => {
      open(Boolean(panel.hidden));
      if (!panel.hidden) title.focus();
    });
    all.addEventListener("click", () => (title.focus(), this.attempt(store.read("all"))));
    more.addEventListener("click", () => this.attempt(this.older(store, rows, draw)));
    const pressed = (/** @type {KeyboardEvent} */ { key }) => {
      if (key !== "Escape" || panel.hidden) return;
      open(false);
      bell.focus();
    };
    const outside = (/** @type {Event} */ event) => { if (!event.composedPath().includes(this)) open(false); };
    this.root.addEventListener("keydown", /** @type {EventListener} */ (pressed));
    document.addEventListener("pointerdown", outside);

    /** @type {number | null} */
    let before = null;
    /** @param {import("../types.js").StoreState} state */
    const draw = ({ messages, unread, more: older, loaded }) => {
      const label = say("unread", { n: unread });
      bell.setAttribute("aria-label", `${say("messages")}. ${label}`);
      if (before !== null && unread > before) live.textContent = label;
      before = loaded ? unread : null;
      badge.hidden = !unread;
      badge.textContent = unread > 99 ? "99+" : String(unread);
      const wanted = messages.map((message) => {
        const row = rows.get(message.id) ?? this.row(store, message, title);
        rows.set(message.id, row);
        row.classList.toggle("unread", !message.read);
        for (const one of row.querySelectorAll(".for-unread")) /** @type {HTMLElement} */ (one).hidden = Boolean(message.read);
        return row;
      });
      for (const id of rows.keys()) if (!messages.some((one) => one.id === id)) rows.delete(id);
      keepInStep(list, wanted);
      none.hidden = !loaded || messages.length > 0;
      more.hidden = !older;
      all.hidden = !unread;
    };
    this.ends.push(store.subscribe(draw), () => document.removeEventListener("pointerdown", outside));
  }

  /**
   * @param {import("./base.js").Store} store
   * @param {Map<string, HTMLElement>} rows
   * @param {(state: import("../types.js").StoreState) => void} draw
   */
  async older(store, rows, draw) {
    const { length } = store.state.messages;
    await store.older();
    draw(store.state);
    rows.get(store.state.messages[length]?.id)?.focus(); // the button may be gone; reading goes on at the first older one
  }

  /**
   * @param {import("./base.js").Store} store
   * @param {Message} message
   * @param {HTMLElement} title  takes the focus when the last row goes
   */
  row(store, { id, from, subject, text, sent_at, url }, title) {
    const read = button("✓", say("read", { name: subject }), () => {
      row.focus();
      this.attempt(store.read(id));
    });
    read.classList.add("for-unread");
    const remove = button("×", say("remove", { name: subject }), () => {
      const next = /** @type {HTMLElement | null} */ (row.nextElementSibling ?? row.previousElementSibling);
      (next ?? title).focus();
      this.attempt(store.remove(id));
    });
    const row = el("li", { part: "message", tabindex: "-1" },
      el("div", { class: "line" },
        el("span", { part: "sender", class: "muted" }, el("span", { class: "sr for-unread" }, say("isUnread")), ` ${from?.name ?? from?.id ?? say("system")}`),
        timeElement(sent_at), read, remove),
      el("div", { part: "subject" }, subject), text ? el("p", { part: "text", class: "text" }, text) : null, link(url));
    return row;
  }
}

function icon() {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", "M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15zM10 20.5a2.2 2.2 0 0 0 4 0");
  svg.append(path);
  return svg;
}

customElements.get("notifier-bell") ?? customElements.define("notifier-bell", NotifierBell);
