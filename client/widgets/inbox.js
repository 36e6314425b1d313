/**
 * `<notifier-inbox>`: the messages box, anywhere in a page. The bell has the same one in its panel.
 *
 * Owns: that the list is loaded when it is first shown. Must not know: messages, panels.
 */

import { Widget } from "./base.js";
import { connectionNote } from "./connection.js";
import { define } from "./element.js";
import { loaded } from "./loaded.js";

/** @typedef {import("./base.js").Store} Store */

/**
 * Loads the list and shows it around the connection's note.
 *
 * @param {Widget} widget
 * @param {Store} store
 * @param {HTMLElement | null} scroller  the box that it is scrolled in; null: the window
 * @param {HTMLElement} note
 * @returns {Promise<ReturnType<typeof import("./list.js").showList> | undefined>} undefined: the widget has ended
 */
export async function inbox(widget, store, scroller, note) {
  const list = await loaded(widget, () => import("./list.js"), note);
  return list?.showList(widget, store, scroller, note);
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
