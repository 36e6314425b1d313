/**
 * The tasks box: a bar for each task, one bar over all that run, cancel, dismiss, pop-ups for begin and end.
 *
 * Owns: their list. Must not know: what is true of tasks (the store does), tokens, the stream.
 */

import { byId, el, iconButton, keepInStep, setBar, timeElement } from "./dom.js";
import { attempt, toast } from "./toasts.js";

/** @typedef {import("../types.js").Task} Task */
/** @typedef {import("../types.js").TaskStatus} TaskStatus */
/** @typedef {ReturnType<typeof import("../store.js").createStore>} Store */

/** @type {Record<TaskStatus, string>} */
const WORDS = {
  pending: "Waiting", running: "Running", cancelling: "Cancelling", stalled: "Stalled",
  succeeded: "Done", failed: "Failed", cancelled: "Cancelled",
};
/** @type {Partial<Record<TaskStatus, import("./toasts.js").Kind>>} */
const ENDS = { succeeded: "success", failed: "error", cancelled: "warning" };

/**
 * Fills the box and keeps it in step.
 *
 * @param {Store} store
 */
export function showTasks(store) {
  /** @type {Map<string, HTMLElement>} */
  const rows = new Map();

  store.subscribe(draw);
  store.onNews((news) => {
    if (news.kind !== "task") return;
    const { name, status, error, state } = news.task;
    const end = ENDS[status];
    if (end) toast(end, `${name}: ${WORDS[status].toLowerCase()}`, error ?? state);
    else toast("task", `${name}: started`, state);
  });

  /** @param {import("../types.js").StoreState} state */
  function draw({ tasks }) {
    const wanted = tasks.map((task) => {
      const row = rows.get(task.id) ?? drawRow(task);
      rows.set(task.id, row);
      update(row, task);
      return row;
    });
    for (const id of rows.keys()) if (!tasks.some((task) => task.id === id)) rows.delete(id);
    keepInStep(byId("task-list"), wanted);
    byId("no-tasks").hidden = tasks.length > 0;
    drawOverall(tasks.filter(({ ended_at }) => !ended_at));
  }

  /** @param {Task} task */
  function drawRow({ id, name, started_at }) {
    const cancel = el("button", { type: "button", class: "quiet cancel", "aria-label": `Cancel ${name}` }, "Cancel");
    cancel.addEventListener("click", () => attempt(() => store.cancel(id)));
    const dismiss = iconButton("close", `Dismiss ${name}`, () => attempt(async () => {
      await store.dismiss(id);
      byId("tasks-title").focus();
    }));
    dismiss.classList.add("dismiss");
    return el("li", { class: "task", "data-id": id },
      el("div", { class: "task-head" }, el("span", { class: "task-name" }, name), el("span", { class: "chip" }), timeElement(started_at), el("div", { class: "actions" }, cancel, dismiss)),
      el("div", { class: "track", role: "progressbar", "aria-label": name, "aria-valuemin": "0", "aria-valuemax": "100" }, el("div", { class: "fill" })),
      el("div", { class: "task-foot" }, el("span", { class: "task-state" }), el("span", { class: "task-left" })));
  }
}

/**
 * @param {HTMLElement} row
 * @param {Task} task
 */
function update(row, task) {
  const part = (/** @type {string} */ name) => /** @type {HTMLElement} */ (row.querySelector(name));
  const ended = Boolean(task.ended_at);
  row.dataset.status = task.status;
  row.toggleAttribute("data-ended", ended);
  part(".chip").textContent = WORDS[task.status];
  part(".task-state").textContent = task.error ?? task.state;
  part(".task-left").textContent = [percentText(task), leftText(task)].filter(Boolean).join(" · ");
  part(".cancel").hidden = ended || task.status === "cancelling";
  part(".dismiss").hidden = !ended;
  setBar(part(".track"), task.percent ?? (ended ? 100 : null));
}

/** @param {Task[]} running */
function drawOverall(running) {
  const count = byId("running");
  byId("overall").hidden = !running.length;
  count.hidden = !running.length;
  count.textContent = `${running.length} running`;
  if (!running.length) return;
  const shares = running.map(({ percent }) => percent ?? 0);
  const mean = Math.floor(shares.reduce((a, b) => a + b) / shares.length);
  setBar(byId("overall-bar"), running.every(({ percent }) => percent === null) ? null : mean);
  byId("overall-text").textContent = running.length === 1 ? `${mean} %` : `${mean} % of ${running.length} tasks`;
}

/** @param {Task} task */
function percentText({ percent, done, ended_at }) {
  if (percent !== null) return `${percent} %`;
  return ended_at ? "" : `${done} so far`;
}

/** @param {Task} task */
function leftText({ eta_s, ended_at, status }) {
  if (ended_at || eta_s === null || status !== "running") return "";
  if (eta_s < 1) return "a moment left";
  return eta_s < 90 ? `${Math.round(eta_s)} s left` : `${Math.round(eta_s / 60)} min left`;
}
