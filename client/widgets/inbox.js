/**
 * `<notifier-inbox>`: the messages box, anywhere in a page. The bell has the same one in its panel.
 *
 * Owns: that the list is loaded when it is first shown. Must not know: messages, panels.
 */

import { Widget } from "./base.js";
import { connectionNote } from "./connection.js";
import { button } from "./dom.js";
import { define } from "./element.js";
import { say } from "./texts.js";

/** @typedef {import("./base.js").Store} Store */

/**
 * Loads the list and shows it around the connection's note. Where it does not load, the widget says so.
 *
 * @param {Widget} widget
 * @param {Store} store
 * @param {HTMLElement | null} scroller  the box that it is scrolled in; null: the window
 * @param {HTMLElement} note
 * @returns {Promise<ReturnType<typeof import("./list.js").showList> | null>} null: the widget has ended
 */
export async function inbox(widget, store, scroller, note) {
  const { ends } = widget;
  const list = await import("./list.js").catch(() => null);
  if (widget.ends !== ends) return null;
  if (list) return list.showList(widget, store, scroller, note);
  return new Promise((resolve) => {
    const retry = button(`${say("notLoaded")} ${say("retry")}`, say("retry"), () => {
      retry.remove();
      resolve(inbox(widget, store, scroller, note));
    });
    note.after(retry);
  });
}

export class NotifierInbox extends Widget {
  /** @param {Store} store */
  start(store) {
    const note = connectionNote(this, store);
    this.root.append(note);
    void inbox(this, store, null, note);
  }
}

define("notifier-inbox", NotifierInbox);
