/**
 * The messages box: newest first, read and unread, deleting, older pages, the unread badge.
 *
 * Owns: the messages this tab holds, and their list. Must not know: tokens, how the stream is kept open.
 */

import { byId, el, icon, iconButton, keepInStep, safeLink, timeElement } from "./dom.js";
import { attempt, toast } from "./toasts.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").InboxChange} InboxChange */
/** @typedef {import("../types.js").WireEvent} WireEvent */
/** @typedef {ReturnType<typeof import("../notifier.js").connect>} Notifier */

const PAGE = 6;

/**
 * Fills the box and keeps it in step.
 *
 * @param {Notifier} notifier
 * @param {(unread: number) => void} onUnread
 */
export function showMessages(notifier, onUnread) {
  /** @type {Message[]} */
  let messages = []; // newest first
  let unread = 0;
  let more = false;
  let countedTo = ""; // the cursor up to which the service's own count of unread ones reaches
  /** @type {[Message, WireEvent][] | null} */
  let waiting = null; // messages that came while the list was being fetched
  let stale = false; // something happened that this fetch may not show
  const rows = new Map();

  notifier.on("hello", (hello, event) => {
    countedTo = event.id;
    setUnread(hello.unread);
    // Without a replay the list we have is whole; after a reset it is listed again anyway.
    if (!rows.size || hello.replayed) load();
  });
  notifier.on("reset", load);
  notifier.on("message", arrived);
  notifier.on("inbox", changed);
  byId("more").addEventListener("click", older);
  byId("read-all").addEventListener("click", () => attempt(async () => {
    const { unread: left } = await notifier.markRead("all");
    changed({ read: messages.map(({ id }) => id), deleted: [], unread: left });
  }));

  /** Lists the newest page anew: what is shown may be stale. */
  async function load() {
    stale = true;
    if (waiting) return;
    waiting = [];
    stale = false;
    await attempt(async () => {
      const page = await notifier.inbox({ limit: PAGE });
      messages = page.messages;
      more = page.more;
      countedTo = page.cursor;
      setUnread(page.unread);
    });
    const late = waiting;
    waiting = null;
    for (const [message, event] of late) add(message, event);
    draw();
    if (stale) await load();
  }

  async function older() {
    const { length } = messages;
    await attempt(async () => {
      const page = await notifier.inbox({ limit: PAGE, before: messages.at(-1)?.id });
      const known = new Set(messages.map(({ id }) => id));
      messages = messages.concat(page.messages.filter(({ id }) => !known.has(id)));
      more = page.more;
    });
    draw();
    rows.get(messages[length]?.id)?.focus(); // the button may be gone; reading goes on at the first older one
  }

  /**
   * @param {Message} message
   * @param {WireEvent} event
   */
  function arrived(message, event) {
    toast(message.level, `${senderOf(message)}: ${message.subject}`, message.text);
    if (waiting) {
      waiting.push([message, event]);
    } else {
      add(message, event);
      draw();
    }
  }

  /**
   * @param {Message} message
   * @param {WireEvent} event
   */
  function add(message, event) {
    if (messages.some(({ id }) => id === message.id)) return;
    messages.unshift({ ...message, read: false });
    if (isAfter(event.id, countedTo)) setUnread(unread + 1);
  }

  /** @param {InboxChange} change */
  function changed({ read, deleted, unread: count }) {
    // Without ids it says only how many there are: the service knows that something changed, and not what.
    if (!read.length && !deleted.length && count !== unread) void load();
    for (const message of messages) message.read ||= read.includes(message.id);
    messages = messages.filter(({ id }) => !deleted.includes(id));
    setUnread(count);
    draw();
    if (!messages.length && more) void load();
  }

  /** @param {Message} message */
  function read(message) {
    if (!message.read) {
      void attempt(async () => changed({ read: [message.id], deleted: [], ...(await notifier.markRead(message.id)) }));
    }
  }

  /** @param {Message} message */
  function remove(message) {
    const next = rows.get(messages[messages.findIndex(({ id }) => id === message.id) + 1]?.id);
    void attempt(async () => {
      changed({ read: [], deleted: [message.id], ...(await notifier.deleteMessage(message.id)) });
      (next ?? byId("messages-title")).focus();
    });
  }

  /** @param {number} count */
  function setUnread(count) {
    unread = count;
    onUnread(count);
  }

  function draw() {
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
    const now = () => messages.find(({ id }) => id === message.id) ?? message;
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

/**
 * Whether an event came after a cursor. Of another epoch: it did, there is no other order.
 *
 * @param {string} id
 * @param {string} cursor
 */
function isAfter(id, cursor) {
  const [epoch, seq] = id.split("-");
  const [cursorEpoch, cursorSeq] = cursor.split("-");
  return epoch !== cursorEpoch || Number(seq) > Number(cursorSeq);
}
