/**
 * The list of tasks in `<notifier-tasks>`: a bar for each, a bar for all that run. A page loads it when it is first shown.
 *
 * Owns: the list. Must not know: pop-ups, messages.
 */

import { bar, el, icon, keepInStep, labelled, setBar, timeElement } from "./dom.js";
import { PLACEHOLDER_CSS, placeholder } from "./placeholder.js";
import { QUESTION_CSS } from "./question.js";
import { announcer, taskView } from "./task_bar.js";
import { percentText, say, statusOf } from "./texts.js";

/** @typedef {import("../types.js").Task} Task */
/** @typedef {import("./base.js").Store} Store */
/** @typedef {import("./base.js").Widget} Widget */

const CSS = `${PLACEHOLDER_CSS}${QUESTION_CSS}
  .stale ~ [part=overall] { opacity: 0.55; }
  [part=overall] { padding-block-end: 0.75rem; border-block-end: 1px solid var(--_line); }
  li { padding-block: 0.75rem; border-block-end: 1px solid var(--_line); }
  li:last-child { border: 0; padding-block-end: 0; }
  [part=name] { font-weight: 600; overflow-wrap: anywhere; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
  [part=status] { border: 1px solid; border-radius: 1rem; padding-inline: 0.5rem; font-size: 0.75rem; }
  .failed [part=status], .failed [part=state] { color: var(--_error); }
  .failed .fill { background: var(--_error); }
  .succeeded .fill { background: var(--_success); }
  .cancelled .fill { background: var(--_muted); } .stalled .fill { background: var(--_warning); }
  .line { margin-block: 0.15rem; flex-wrap: nowrap; }
  .line > * { flex: none; } .line > :first-child, .result { flex-shrink: 1; min-inline-size: 0; overflow-wrap: anywhere; }
  [part=state] { color: var(--_muted); font-size: 0.875rem; }`;

/**
 * The list, updated from the store while the widget is shown, after the note.
 *
 * @param {Widget} widget
 * @param {Store} store
 * @param {HTMLElement} note  see connectionNote
 */
export function showTasks(widget, store, note) {
  /** @type {Map<string, {row: HTMLElement, update: (task: Task) => void}>} */
  const rows = new Map();
  const all = bar(say("tasks"));
  const text = el("span", { class: "text" });
  const percent = el("span", { class: "muted" });
  const overall = el("div", { part: "overall" }, el("div", { class: "line" }, text, percent), all);
  const list = el("ol", { part: "list", tabindex: "-1", "aria-label": say("tasks") });
  const { box, show } = placeholder("noTasks", "tasks", store.reload, list);
  const live = el("div", { class: "sr", role: "status" });
  const announce = announcer(live);
  widget.adopt(CSS);
  note.after(overall, list, box, live);
  widget.ends.push(
    store.subscribe(({ tasks, tasksLoaded, tasksFailed }) => {
      const wanted = tasks.map((task) => {
        const entry = rows.get(task.id) ?? drawRow(widget, store, task, list);
        rows.set(task.id, entry);
        entry.update(task);
        announce(task);
        return entry.row;
      });
      for (const id of rows.keys()) if (!tasks.some((task) => task.id === id)) rows.delete(id);
      keepInStep(list, wanted);
      show(tasksLoaded, tasksFailed, tasks.length);
      const running = tasks.filter(({ ended_at, status }) => !ended_at && !/pending|waiting/.test(status));
      overall.hidden = !running.length;
      if (overall.hidden) return;
      const known = running.flatMap((task) => task.percent ?? []);
      const mean = known.length ? Math.floor(known.reduce((sum, part) => sum + part, 0) / known.length) : null;
      text.textContent = say("overall", { n: running.length });
      percent.textContent = mean === null ? "" : percentText(mean);
      all.ariaLabel = text.textContent;
      setBar(all, mean);
    }),
  );
}

/**
 * @param {Widget} widget
 * @param {Store} store
 * @param {Task} task
 * @param {HTMLElement} list  receives the focus when the focused row is removed
 */
function drawRow(widget, store, { id, name, started_at }, list) {
  const view = taskView(widget, store, id, name);
  const status = el("span", { part: "status" });
  const stop = () => widget.attempt("notCancelled", () => store.cancel(id));
  const cancel = labelled(say("cancelOne", { name }), stop, say("cancel"));
  const remove = () => {
    list.focus();
    widget.attempt("notDismissed", () => store.dismiss(id));
  };
  const dismiss = labelled(say("dismiss", { name }), remove, icon("close"));
  const time = timeElement(started_at);
  view.line.append(time);
  const row = el(
    "li",
    { part: "task" },
    el("div", { class: "line" }, el("span", { part: "name", title: name }, name), status, cancel, dismiss),
    view.track,
    view.line,
    view.question,
  );
  /** @param {Task} task */
  const update = (task) => {
    const ended = Boolean(task.ended_at);
    row.className = task.status;
    view.update(task);
    status.textContent = statusOf(task);
    cancel.hidden = ended || task.status === "cancelling" || !(task.cancellable ?? task.cancellable === undefined);
    dismiss.hidden = time.hidden = !ended; // a running task shows its remaining time instead
  };
  return { row, update };
}
