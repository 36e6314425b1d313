/**
 * The page of the shop: listens to the DOM events that {% notifier %} makes of the stream, and draws them.
 * Every text goes in with textContent: messages come from people.
 */

const byId = (id) => document.getElementById(id);
const tasks = new Map(); // id -> the task's row
const messages = new Map(); // id -> the message's row
const ENDED = new Set(["succeeded", "failed", "cancelled"]);

function make(name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}

function toast(level, title, text) {
  const one = make("div", "toast");
  one.dataset.level = level;
  one.append(make("b", "", title), make("span", "", text));
  byId("toasts").append(one);
  setTimeout(() => one.remove(), 6000);
}

// Tasks: the newest state is all that counts

function showTask(task) {
  const row = tasks.get(task.id) ?? newTask(task);
  const { percent, status } = task;
  row.element.dataset.status = status;
  row.name.textContent = task.name;
  row.state.textContent = task.error ?? task.state;
  row.number.textContent = percent === null ? "" : `${percent} %`;
  row.bar.toggleAttribute("data-unknown", percent === null && !ENDED.has(status));
  row.bar.setAttribute("aria-valuenow", percent ?? 0);
  row.bar.firstChild.style.width = `${percent ?? (status === "succeeded" ? 100 : 0)}%`;
  row.cancel.hidden = ENDED.has(status) || status === "cancelling";
  row.dismiss.hidden = !ENDED.has(status);
}

function newTask(task) {
  const element = make("li", "task");
  const row = {
    element, name: make("b", ""), state: make("span", "soft"), number: make("span", "number"),
    bar: make("div", "bar"), cancel: make("button", "quiet", "Cancel"), dismiss: make("button", "quiet", "Dismiss"),
  };
  element.dataset.id = task.id;
  row.bar.append(make("div", "fill"));
  row.bar.setAttribute("role", "progressbar");
  row.cancel.onclick = () => window.notifier.cancelTask(task.id);
  row.dismiss.onclick = () => window.notifier.dismissTask(task.id).then(() => element.remove());
  element.append(row.name, row.state, row.number, row.cancel, row.dismiss, row.bar);
  tasks.set(task.id, row);
  byId("tasks").prepend(element);
  return row;
}

document.addEventListener("notifier:task", ({ detail: task }) => {
  const before = tasks.get(task.id)?.element.dataset.status;
  showTask(task);
  if (!before) toast("info", task.name, task.state);
  else if (before !== task.status && ENDED.has(task.status)) {
    toast({ succeeded: "success", failed: "error" }[task.status] ?? "warning", task.name, task.error ?? task.state);
  }
});

// Messages

function showMessage(message, read, where = "prepend") {
  if (messages.has(message.id)) return;
  const row = make("li", "message");
  row.dataset.level = message.level;
  row.dataset.id = message.id;
  row.toggleAttribute("data-unread", !read);
  const sent = make("time", "soft", new Date(message.sent_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  row.append(make("b", "", message.subject), sent, make("span", "soft", `from ${message.from?.name ?? "the shop"}`));
  if (message.text) row.append(make("p", "", message.text));
  row.onclick = () => row.hasAttribute("data-unread") && window.notifier.markRead(message.id);
  messages.set(message.id, row);
  byId("messages")[where](row);
  byId("empty").hidden = true;
}

function showUnread(count) {
  byId("unread").textContent = count;
  byId("unread").hidden = byId("read-all").hidden = count === 0;
}

document.addEventListener("notifier:message", ({ detail: message }) => {
  if (messages.has(message.id)) return;
  showMessage(message, false);
  showUnread(document.querySelectorAll(".message[data-unread]").length);
  toast(message.level, message.subject, message.text);
});

document.addEventListener("notifier:inbox", ({ detail: { read, deleted, unread } }) => {
  for (const id of read) messages.get(id)?.removeAttribute("data-unread");
  for (const id of deleted) messages.get(id)?.remove();
  showUnread(unread);
});

byId("read-all").onclick = () => window.notifier.markRead("all");

// The present state: at every connect, and when something may have been missed

async function takeState({ detail }) {
  for (const task of [...detail.tasks].reverse()) showTask(task);
  showUnread(detail.unread);
  const page = await window.notifier.inbox({ limit: 30 });
  for (const { read, ...message } of page.messages) showMessage(message, read, "append");
}

document.addEventListener("notifier:hello", takeState);
document.addEventListener("notifier:reset", (event) => {
  for (const rows of [tasks, messages]) rows.clear();
  byId("tasks").replaceChildren();
  byId("messages").replaceChildren();
  takeState(event);
});

document.addEventListener("notifier:state", ({ detail: { state } }) => {
  byId("state").dataset.state = state;
  byId("state").textContent = state;
});

// Forms: the page stays

for (const form of document.querySelectorAll("form[data-job], #send")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
    if (!answer.ok) toast("error", "That did not work", `The server answered ${answer.status}`);
    else if (form.id === "send") {
      form.reset();
      byId("sent").textContent = "Sent";
      setTimeout(() => (byId("sent").textContent = ""), 3000);
    }
  });
}
