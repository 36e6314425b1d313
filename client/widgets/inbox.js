/**
 * `<notifier-inbox>`: the messages box, anywhere in a page. The bell has the same one in its panel.
 *
 * Owns: the list of messages and its actions. Must not know: panels, pop-ups, tasks.
 */

import { button, el, icon, keepInStep, link, picture, say, timeElement, Widget } from "./base.js";
import { connectionNote } from "./connection.js";
import { define } from "./element.js";
import { PLACEHOLDER_CSS, placeholder } from "./placeholder.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("./base.js").Store} Store */

export const INBOX_CSS = `${PLACEHOLDER_CSS}
  h2 { font-size: 1rem; margin: 0; outline: 0; }
  li { display: flex; gap: 0.6rem; padding: 0.65rem 0.6rem; border-block-start: 1px solid var(--_line); border-inline-start: 3px solid transparent; }
  li .body { flex: 1; min-inline-size: 0; }
  li.unread { border-inline-start-color: var(--_accent); background: color-mix(in srgb, var(--_accent) 6%, transparent); }
  li.unread [part=subject] { font-weight: 600; }
  [part=list] { margin-block-start: 0.4rem; }
  [part=subject] { overflow-wrap: anywhere; }
  [part=more] { inline-size: 100%; color: var(--_accent); border-block-start: 1px solid var(--_line); }`;

/** The sender as shown. @param {Message} message */
export const senderOf = ({ from }) => from?.name ?? from?.id ?? say("system");

/**
 * The inbox, updated from the store while the widget is shown.
 *
 * @param {Widget} widget
 * @param {Store} store
 * @param {(isDim: boolean, words: string) => void} [onConnection]  see connectionNote
 */
export function inbox(widget, store, onConnection) {
  /** @type {Map<string, HTMLElement>} */
  const rows = new Map();
  const title = el("h2", { tabindex: "-1" }, say("messages"));
  const all = el("button", { type: "button", part: "button" }, say("readAll"));
  const list = el("ol", { part: "list" });
  const { box, show } = placeholder("none", "bell", store.reload, list);
  const more = el("button", { type: "button", part: "more" }, say("more"));
  const read = (/** @type {string} */ id) => widget.attempt("notRead", () => store.read(id));
  const remove = (/** @type {string} */ id) => widget.attempt("notRemoved", () => store.remove(id));
  all.addEventListener("click", () => {
    title.focus();
    read("all");
  });
  more.addEventListener("click", () => widget.attempt("notMore", older));

  /** @param {import("../types.js").StoreState} state */
  function draw({ messages, unread, more: isMore, loaded, failed }) {
    const wanted = messages.map((message) => {
      const row = rows.get(message.id) ?? drawRow(message, title, read, remove);
      rows.set(message.id, row);
      row.classList.toggle("unread", !message.read);
      for (const mark of row.querySelectorAll(".for-unread")) {
        /** @type {HTMLElement} */ (mark).hidden = Boolean(message.read);
      }
      return row;
    });
    for (const id of rows.keys()) if (!messages.some((message) => message.id === id)) rows.delete(id);
    keepInStep(list, wanted);
    show(loaded, failed, messages.length);
    more.hidden = !isMore;
    all.hidden = !unread;
  }

  async function older() {
    const { length } = store.state.messages;
    await store.older();
    draw(store.state);
    rows.get(store.state.messages[length]?.id)?.focus(); // the button may be gone: focus the first older message
  }

  widget.ends.push(store.subscribe(draw));
  const note = connectionNote(widget, store, onConnection);
  return { title, parts: [el("div", { class: "line" }, title, all), note, list, box, more] };
}

/**
 * @param {Message} message
 * @param {HTMLElement} title  receives the focus when the only message is removed
 * @param {(id: string) => void} markRead
 * @param {(id: string) => void} remove
 */
function drawRow(message, title, markRead, remove) {
  const { id, level, subject, text, sent_at, url } = message;
  const read = button(icon("read"), say("read", { name: subject }), () => {
    row.focus();
    markRead(id);
  });
  read.classList.add("for-unread");
  const removal = button(icon("remove"), say("remove", { name: subject }), () => {
    const next = /** @type {HTMLElement | null} */ (row.nextElementSibling ?? row.previousElementSibling);
    (next ?? title).focus();
    remove(id);
  });
  const target = link(url);
  target?.addEventListener("click", () => markRead(id));
  const isUnread = el("span", { class: "sr for-unread" }, say("isUnread"));
  const sender = el("span", { part: "sender", class: "muted" }, isUnread, ` ${senderOf(message)}`);
  const row = el(
    "li",
    { part: "message", class: level, tabindex: "-1" },
    picture(message),
    el(
      "div",
      { class: "body" },
      el("div", { class: "line" }, sender, timeElement(sent_at), read, removal),
      el("div", { part: "subject" }, subject),
      text ? el("p", { part: "text", class: "text" }, text) : null,
      target,
    ),
  );
  return row;
}

export class NotifierInbox extends Widget {
  static css = INBOX_CSS;

  /** @param {Store} store */
  start(store) {
    this.root.append(...inbox(this, store).parts);
  }
}

define("notifier-inbox", NotifierInbox);
