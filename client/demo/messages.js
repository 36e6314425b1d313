/**
 * The messages box: newest first, read and unread, deleting, older pages, pop-ups for new ones.
 *
 * Owns: their list. Must not know: what is true of messages (the store does), tokens, the stream.
 */

import { byId, el, icon, iconButton, keepInStep, safeLink, timeElement } from "./dom.js";
import { attempt, toast } from "./toasts.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {ReturnType<typeof import("../store.js").createStore>} Store */

/**
 * Fills the box and keeps it in step.
 *
 * @param {Store} store
 */
export function showMessages(store) {
  const rows = new Map();

  store.subscribe(draw);
  store.onNews((news) => {
    if (news.kind !== "message") return;
    const { message } = news;
    toast(message.level, `${senderOf(message)}: ${message.subject}`, message.text);
  });
  byId("more").addEventListener("click", () => attempt(older));
  byId("read-all").addEventListener("click", () => attempt(() => store.read("all")));

  async function older() {
    const { length } = store.state.messages;
    await store.older();
    draw(store.state);
    rows.get(store.state.messages[length]?.id)?.focus(); // the button may be gone; reading goes on at the first older one
  }

  /** @param {Message} message */
  function read({ id, read }) {
    if (!read) void attempt(() => store.read(id));
  }

  /** @param {Message} message */
  function remove({ id }) {
    const next = rows.get(id).nextElementSibling;
    void attempt(() => {
      const removed = store.remove(id);
      draw(store.state); // at once: the focus goes on with the next one
      (next ?? byId("messages-title")).focus();
      return removed;
    });
  }

  /** @param {import("../types.js").StoreState} state */
  function draw({ messages, unread, more }) {
    const wanted = messages.map((message) => {
      const row = rows.get(message.id) ?? drawRow(message);
      rows.set(message.id, row);
      row.classList.toggle("unread", !message.read);
      row.querySelector(".mark-read").hidden = Boolean(message.read);
      row.querySelector(".sr").textContent = message.read ? "" : "Unread. ";
      return row;
    });
    for (const id of rows.keys()) if (!messages.some((message) => message.id === id)) rows.delete(id);
    keepInStep(byId("message-list"), wanted);
    byId("no-messages").hidden = messages.length > 0;
    byId("more").hidden = !more;
    byId("read-all").hidden = unread === 0;
  }

  /** @param {Message} message */
  function drawRow(message) {
    const now = () => store.state.messages.find(({ id }) => id === message.id) ?? message;
    const markRead = iconButton("check", `Mark "${message.subject}" as read`, () => read(now()));
    markRead.classList.add("mark-read");
    const link = safeLink(message.url);
    const row = el("li", { class: "message", tabindex: "-1", "data-level": message.level, "data-id": message.id },
      icon(message.level === "debug" ? "info" : message.level),
      el("div", { class: "message-body" },
        el("div", { class: "message-meta" }, el("span", { class: "sr" }), el("span", {}, senderOf(message)), timeElement(message.sent_at)),
        el("div", { class: "message-subject" }, message.subject),
        ...(message.text ? [el("p", { class: "message-text" }, message.text)] : []),
        ...(link ? [el("a", { class: "link", href: link, target: "_blank", rel: "noopener noreferrer" }, "Open")] : [])),
      el("div", { class: "actions" }, markRead, iconButton("trash", `Delete "${message.subject}"`, () => remove(now()))));
    row.addEventListener("click", () => read(now()));
    return row;
  }
}

/** @param {Message} message */
function senderOf({ from }) {
  return from?.name ?? from?.id ?? "System";
}
