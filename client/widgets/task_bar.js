/**
 * The bar in `<notifier-progress>`. A page loads it when it is first shown.
 *
 * Owns: the bar and its announcements. Must not know: other tasks.
 */

import { bar, barOf, el, link, setBar } from "./dom.js";
import { PLACEHOLDER_CSS, placeholder } from "./placeholder.js";
import { QUESTION_CSS, questionOf } from "./question.js";
import { howFar, percentText, statusOf } from "./texts.js";

/** @typedef {import("../types.js").Task} Task */

const CSS = `${PLACEHOLDER_CSS}${QUESTION_CSS}
  :has(> .stale) > .track { opacity: 0.55; }`;
const STEP = 25; // percent between two announcements

/**
 * Announces a task's progress at every quarter and at its end.
 *
 * @param {HTMLElement} region  a live region
 */
export function announcer(region) {
  /** @type {Map<string, string>} */
  const announced = new Map();
  /** @param {Task} task */
  return (task) => {
    const quarter = task.percent === null ? 0 : Math.floor(task.percent / STEP);
    const now = task.ended_at ? task.status : String(quarter);
    const before = announced.get(task.id);
    announced.set(task.id, now);
    if (before === undefined || before === now) return; // the state at the start is not announced
    region.textContent = `${task.name}: ${task.ended_at ? statusOf(task) : percentText(quarter * STEP)}`;
  };
}

/**
 * What the list of tasks and the bar of one show alike: how far a task is, its state, its result, what it asks.
 *
 * @param {import("./base.js").Widget} widget
 * @param {import("./base.js").Store} store
 * @param {string} id  of the task
 * @param {string} [name]
 */
export function taskView(widget, store, id, name = "") {
  const asked = questionOf(widget, store, id);
  const track = bar(name);
  const state = el("span", { part: "state", class: "text" });
  const far = el("span", { part: "percent", class: "muted" });
  const result = el("span", { class: "result" });
  const line = el("div", { class: "line" }, state, far, result);

  /**
   * @param {Task} task
   * @param {string} [words]  where the task says nothing of its state
   */
  function update(task, words = "") {
    setBar(track, barOf(task));
    state.textContent = (task.error ?? task.state) || words;
    far.textContent = howFar(task);
    const anchor = result.firstChild ? null : link(task.url, task.url_text);
    if (anchor) result.append(anchor);
    asked.update(task);
  }
  return { track, line, question: asked.box, update };
}

/**
 * The bar of one task in `<notifier-progress>`, updated from the store while the widget is shown.
 *
 * @param {import("./base.js").Widget} widget
 * @param {import("./base.js").Store} store
 * @param {string} id  of the task
 * @param {HTMLElement} note  see connectionNote
 */
export function showBar(widget, store, id, note) {
  const { track, line, question, update } = taskView(widget, store, id);
  const live = el("div", { class: "sr", role: "status" });
  const box = el("div", { part: "progress" }, track, line, question, note);
  const announce = announcer(live);
  const area = el("div", {}, box);
  const { box: instead, show } = placeholder("noTasks", "tasks", store.reload, area, 1);
  area.append(instead);
  widget.adopt(CSS);
  widget.root.append(area, live);
  widget.ends.push(
    store.subscribe(({ tasks, tasksLoaded, tasksFailed }) => {
      show(tasksLoaded, tasksFailed, 1); // a task that is not known shows nothing
      const task = tasks.find((other) => other.id === id);
      box.hidden = !task;
      if (!task) return;
      track.ariaLabel = task.name;
      update(task, statusOf(task));
      announce(task);
    }),
  );
}
