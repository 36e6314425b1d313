/**
 * A user's connections and inbox, the trace of a message, a test message, the end of a user's streams.
 *
 * Must not know: figures.
 */

import { byId, el } from "../pages/dom.js";
import { table, time } from "./dom.js";
import { call } from "./service.js";

/** @typedef {import("../notifier.js").ServiceError} ServiceError */

/** Wires the forms. */
export function setUpUser() {
  let user = "";
  onSubmit("user-form", async (fields) => {
    user = fields.user.trim();
    await showUser(user);
  });
  onSubmit("trace-form", async (fields) => showTrace(fields.message.trim(), fields.user.trim()));
  onSubmit("send-form", async ({ to, subject, text, level }) => {
    byId("sent").textContent = "";
    try {
      const { id, watched } = await call("v1/messages", { to: to.split(/\s*,\s*/), subject, text, level });
      byId("sent").replaceChildren(
        watched ? "Sent: a page is open. " : "Stored: no page is open. ",
        el("code", {}, id),
      );
      fill("trace-form", "message", id);
      if (to.startsWith("user:")) fill("trace-form", "user", to.slice(5));
    } catch (error) {
      byId("sent").textContent = reasonOf(error);
    }
  });
  byId("disconnect").addEventListener("click", async () => {
    if (!(await confirmed(`Disconnect ${user}?`))) return;
    byId("user-note").textContent = await call(`v1/users/${encodeURIComponent(user)}/disconnect`, {}).then(
      () => "All streams of the user were ended",
      reasonOf,
    );
  });
}

/** @param {string} user */
async function showUser(user) {
  byId("user-note").textContent = "";
  byId("disconnect").hidden = false;
  byId("user").hidden = false;
  fill("trace-form", "user", user);
  fill("send-form", "to", `user:${user}`);
  const path = `v1/users/${encodeURIComponent(user)}`;
  const [presence, connections, inbox] = await Promise.all([
    call(`${path}/presence`).then(presenceText, reasonOf),
    call(`${path}/connections`).then(connectionTable, unavailable),
    call(`v1/console/inbox?user=${encodeURIComponent(user)}&limit=20`).then(
      ({ messages }) => messages.map((/** @type {any} */ message) => messageRow(message, user)),
      (error) => [el("li", {}, reasonOf(error))],
    ),
  ]);
  byId("user-note").textContent = presence;
  byId("connections").replaceChildren(connections);
  byId("inbox").replaceChildren(...(inbox.length ? inbox : [el("li", { class: "muted" }, "The inbox is empty")]));
}

/** @param {{online: boolean, connections: number, last_seen_at: string | null}} presence */
function presenceText({ online, connections, last_seen_at }) {
  if (online) return connections === 1 ? "Online: 1 stream" : `Online: ${connections} streams`;
  return last_seen_at ? `Offline, last seen ${time(last_seen_at)}` : "Offline, never seen";
}

/** @param {{connections: Record<string, any>[]}} answer */
function connectionTable({ connections }) {
  if (!connections?.length) return el("p", { class: "muted" }, "No streams were recorded");
  return table(
    ["Opened", "Closed", "Why", "Polls", "Address", "Replayed", "Reset", "Browser"],
    connections.map((each) => [
      time(each.opened_at),
      each.closed_at ? time(each.closed_at) : "open",
      String(each.closed_why ?? ""),
      String(each.polls || ""),
      String(each.address ?? ""),
      String(each.replayed ?? ""),
      each.reset ? "yes" : "no",
      el("span", { class: "clipped", title: String(each.user_agent ?? "") }, String(each.user_agent ?? "")),
    ]),
  );
}

/**
 * @param {Record<string, any>} message
 * @param {string} user
 */
function messageRow(message, user) {
  const trace = el("button", { type: "button", class: "quiet", "aria-label": `Trace ${message.subject}` }, "Trace");
  trace.addEventListener("click", () => {
    fill("trace-form", "message", message.id);
    fill("trace-form", "user", user);
    void showTrace(message.id, user);
    byId("trace").scrollIntoView({ block: "nearest" });
  });
  return el(
    "li",
    { "data-level": String(message.level), class: message.read ? "read" : "unread" },
    el(
      "div",
      {},
      el("b", {}, String(message.subject)),
      el(
        "p",
        { class: "muted small" },
        `${time(message.time ?? message.sent_at)} · ${message.read ? "read" : "unread"} · ${message.id}`,
      ),
    ),
    trace,
  );
}

/**
 * @param {string} id
 * @param {string} user
 */
async function showTrace(id, user) {
  const path = `v1/messages/${encodeURIComponent(id)}/trace?user=${encodeURIComponent(user)}`;
  byId("trace").replaceChildren(await call(path).then(facts, unavailable));
}

/** @param {Record<string, unknown>} answer */
function facts(answer) {
  const { connections, ...rest } = answer;
  const list = el("dl", { class: "facts" });
  for (const [name, value] of Object.entries(rest)) {
    if (value === null || value === "") continue;
    const text = name.endsWith("_at") ? time(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
    list.append(
      el("dt", {}, name.replaceAll("_", " ")),
      el("dd", name === "verdict" ? { class: "pill", "data-state": text } : {}, text),
    );
  }
  if (!Array.isArray(connections) || !connections.length) return list;
  const rows = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Connections of the trace" });
  rows.append(connectionTable({ connections }));
  return el("div", {}, list, rows);
}

/** @param {ServiceError} error */
function unavailable(error) {
  // 405: the service has no such call.
  const text = [404, 405].includes(error.status) ? "Not available: the service has no record of it" : reasonOf(error);
  return el("p", { class: "muted" }, text);
}

/** @param {unknown} error */
const reasonOf = (error) => `Not done: ${/** @type {ServiceError} */ (error).message}`;

/**
 * @param {string} form
 * @param {string} name
 * @param {string} value
 */
function fill(form, name, value) {
  const fields = /** @type {HTMLFormElement} */ (byId(form)).elements;
  /** @type {HTMLInputElement} */ (fields.namedItem(name)).value = value;
}

/**
 * @param {string} id
 * @param {(fields: Record<string, string>) => Promise<void>} run
 */
function onSubmit(id, run) {
  const form = /** @type {HTMLFormElement} */ (byId(id));
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button[type=submit]"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true; // one click sends one message
    await run(/** @type {Record<string, string>} */ (Object.fromEntries(new FormData(form))));
    button.disabled = false;
  });
}

/** @param {string} question */
function confirmed(question) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("confirm"));
  byId("confirm-title").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
}
