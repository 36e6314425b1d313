/**
 * `<notifier-tasks>`: a bar for each task, a bar for all running tasks, cancel, dismiss.
 *
 * Owns: that the list is loaded when it is first shown. Must not know: tasks.
 */

import { Widget } from "./base.js";
import { connectionNote } from "./connection.js";
import { define } from "./element.js";
import { loaded } from "./loaded.js";

export class NotifierTasks extends Widget {
  /** @param {import("./base.js").Store} store */
  async start(store) {
    const note = connectionNote(this, store);
    this.root.append(note);
    const list = await loaded(this, () => import("./task_list.js"), note);
    list?.showTasks(this, store, note);
  }
}

define("notifier-tasks", NotifierTasks);
