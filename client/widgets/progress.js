/**
 * `<notifier-progress task="ID">`: one bar, anywhere in a page. Where there is no such task it shows nothing.
 *
 * Owns: which task it is; that the bar is loaded when it is first shown. Must not know: tasks.
 */

import { Widget } from "./base.js";
import { connectionNote } from "./connection.js";
import { define } from "./element.js";
import { loaded } from "./loaded.js";

export class NotifierProgress extends Widget {
  static observedAttributes = ["task"];

  attributeChangedCallback() {
    if (this.isConnected) this.begin();
  }

  /** @param {import("./base.js").Store} store */
  async start(store) {
    const note = connectionNote(this, store);
    this.root.append(note);
    const bar = await loaded(this, () => import("./task_bar.js"), note);
    bar?.showBar(this, store, this.getAttribute("task") ?? "", note);
  }
}

define("notifier-progress", NotifierProgress);
