// The admin's board of tasks: a row per task, kept up to date by the page's stream, which hears the group of all tasks.
// Rows of tasks that began meanwhile are read from the admin, which knows their users.

const MOST_ROWS = 500;
const NEW_MS = 300; // new tasks within this time are read with one request
const RETRY_MS = 2000;
const MOST_IDS = 80; // servers refuse longer addresses, gunicorn those over 4094 bytes
const { tasks: known, statuses, texts, live, acts } = JSON.parse(document.getElementById("notifier-board").textContent);
const board = document.querySelector(".notifier-board");
const body = board.querySelector("tbody");
const filters = board.querySelector(".filters");
const counts = board.querySelector(".counts");
/** Rows by task: what is shown, and its elements. */
const rows = new Map();
const unknown = new Set();
let timer;
let isDue = false;

function element(name, className, ...children) {
  const node = document.createElement(name);
  node.className = className;
  node.append(...children);
  return node;
}

function button(text, act) {
  const node = Object.assign(element("button", "button", text), { type: "button" });
  node.addEventListener("click", act);
  return node;
}

function create(task) {
  const cell = (name) => element("td", name);
  const cells = Object.fromEntries(
    ["name", "user", "status", "progress", "state", "duration", "tools"].map((name) => [name, cell(name)]),
  );
  const row = { task, cells, line: element("tr", "task", ...Object.values(cells)), details: null };
  row.output = button(texts.output, () => toggle(row));
  row.output.setAttribute("aria-expanded", "false");
  row.cancel = button(texts.cancel, async () => {
    row.cancel.disabled = true;
    await window.notifier.store.cancel(task.id).catch(() => {});
    row.cancel.disabled = false;
  });
  cells.name.textContent = task.name;
  cells.user.textContent = task.user;
  cells.status.append(element("span", "pill"));
  rows.set(task.id, row);
  return row;
}

/** The bar with what the task asks, and its output. */
function toggle(row) {
  const isOpen = !row.details;
  row.output.setAttribute("aria-expanded", String(isOpen));
  if (!isOpen) {
    row.details.remove();
    row.details = null;
    return;
  }
  const cell = Object.assign(element("td", "details"), { colSpan: 7 });
  for (const name of ["notifier-progress", "notifier-output"]) {
    const widget = document.createElement(name);
    widget.setAttribute("task", row.task.id);
    widget.toggleAttribute("read-only", !acts);
    cell.append(widget);
  }
  row.details = element("tr", "", cell);
  row.line.after(row.details);
}

function put(parent, text) {
  if (parent.textContent !== text) parent.textContent = text;
}

function show(row) {
  const { task, cells, line } = row;
  line.className = `task ${task.status}`;
  put(cells.status.firstChild, statuses[task.status] ?? task.status);
  put(cells.state, task.state);
  if (task.percent === null) put(cells.progress, task.done ? String(task.done) : "");
  else {
    let bar = cells.progress.querySelector("progress");
    if (!bar) {
      bar = Object.assign(document.createElement("progress"), { max: 100 });
      cells.progress.replaceChildren(bar, "");
    }
    bar.value = task.percent;
    bar.setAttribute("aria-label", task.name);
    put(cells.progress.lastChild, ` ${task.percent} %`);
  }
  showDuration(row);
  const tools = [];
  const [href, text] = task.link; // checked by the server, or by the service
  if (href) tools.push(Object.assign(element("a", "button", text), { href }));
  if (window.notifier) tools.push(row.output);
  if (window.notifier && acts && !task.ended_at && task.status !== "cancelling") tools.push(row.cancel);
  if (tools.length !== cells.tools.children.length || tools.some((tool, n) => tool !== cells.tools.children[n]))
    cells.tools.replaceChildren(...tools);
  if (task.status === "waiting" && !row.details && window.notifier) toggle(row); // what it asks
}

function showDuration({ task, cells }) {
  const end = task.ended_at ? Date.parse(task.ended_at) : Date.now();
  const s = Math.max(0, Math.round((end - Date.parse(task.started_at)) / 1000));
  const two = (n) => String(n).padStart(2, "0");
  put(
    cells.duration,
    s < 3600
      ? `${Math.floor(s / 60)}:${two(s % 60)}`
      : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`,
  );
}

function isWanted({ task }) {
  const { user, name, status } = filters.elements;
  const has = (text, part) => text.toLowerCase().includes(part.value.trim().toLowerCase());
  return has(task.user, user) && has(task.name, name) && (!status.value || task.status === status.value);
}

function filter() {
  isDue = false;
  const numbers = new Map();
  for (const row of rows.values()) {
    const isHidden = !isWanted(row);
    row.line.hidden = isHidden;
    if (row.details) row.details.hidden = isHidden;
    numbers.set(row.task.status, (numbers.get(row.task.status) ?? 0) + 1);
  }
  const { status } = filters.elements;
  const shown = Object.keys(statuses).filter((name) => numbers.has(name));
  const buttons = shown.map((name) => {
    const old = [...counts.children].find((child) => child.value === name);
    const choice = old ?? Object.assign(document.createElement("button"), { type: "button", value: name });
    put(choice, `${statuses[name]}: ${numbers.get(name)}`);
    choice.setAttribute("aria-pressed", String(status.value === name));
    return choice;
  });
  if (buttons.length !== counts.children.length || buttons.some((choice, n) => choice !== counts.children[n]))
    counts.replaceChildren(...buttons);
}

/** Filters and counts once for all tasks that change within a frame; a hidden page has no frames. */
function later() {
  if (document.hidden) return filter();
  if (!isDue) requestAnimationFrame(filter);
  isDue = true;
}

/** A task as the service sends it. */
function receive(task) {
  const row = rows.get(task.id);
  if (!row) {
    unknown.add(task.id);
    if (!timer) timer = setTimeout(readNew, NEW_MS);
    return;
  }
  const link = task.url ? [task.url, task.url_text ?? texts.output] : row.task.link;
  row.task = { ...row.task, ...task, state: task.error ?? task.state, link, user: row.task.user };
  show(row);
  later();
}

async function readNew() {
  const ids = [...unknown].slice(0, MOST_IDS);
  for (const id of ids) unknown.delete(id);
  const answer = await fetch(`${live}?${new URLSearchParams(ids.map((id) => ["id", id]))}`).catch(() => null);
  const { tasks } = answer?.ok ? await answer.json().catch(() => ({ tasks: [] })) : { tasks: [] };
  const isRefused = answer?.status === 403; // the permission to view tasks has ended
  if (!answer?.ok && !isRefused) for (const id of ids) unknown.add(id);
  timer = unknown.size ? setTimeout(readNew, answer?.ok ? NEW_MS : RETRY_MS) : undefined;
  for (const task of tasks) {
    if (rows.has(task.id)) continue;
    const row = create(task);
    body.prepend(row.line);
    show(row);
    // The stream may have brought a newer state while the row was read.
    const newest = window.notifier?.store?.state?.tasks.find(({ id }) => id === task.id);
    if (newest) receive(newest);
  }
  const old = [...rows.values()].filter(({ task }) => task.ended_at).slice(0, Math.max(0, rows.size - MOST_ROWS));
  for (const { task, line, details } of old) {
    line.remove();
    details?.remove();
    rows.delete(task.id);
  }
  later();
}

filters.addEventListener("input", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
counts.addEventListener("click", ({ target }) => {
  if (!target.value) return;
  const { status } = filters.elements;
  status.value = status.value === target.value ? "" : target.value;
  filter();
});
for (const task of known) {
  const row = create(task);
  body.append(row.line);
  show(row);
}
filter();
for (const name of ["hello", "reset"])
  document.addEventListener(`notifier:${name}`, ({ detail }) => detail.tasks.forEach(receive));
document.addEventListener("notifier:task", ({ detail }) => receive(detail));
setInterval(() => {
  if (!document.hidden) for (const row of rows.values()) if (!row.task.ended_at) showDuration(row);
}, 1000);
