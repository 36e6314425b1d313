/**
 * The row of a message in the inbox: a link as a whole, with actions that show on hover, on focus, and by a button on touch.
 *
 * Owns: its elements and their look. Must not know: the list.
 */

import { actionsOf, opener } from "./actions.js";
import { el, icon, labelled, picture, timeElement } from "./dom.js";
import { say, senderOf } from "./texts.js";
import { ago, daysAgo, relative } from "./times.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("./base.js").Widget} Widget */

export const MESSAGE_CSS = `
  li { outline: 0; }
  li[data-group]::before { content: attr(data-group); display: block; padding-block: 0.6rem 0.2rem; color: var(--_muted); font-size: 0.8125rem; font-weight: 600; }
  li:not([data-group]) { border-block-start: 1px solid var(--_line); }
  li[data-group]::first-letter { text-transform: uppercase; }
  .row { position: relative; display: flex; gap: 0.6rem; padding-block: var(--_gap); padding-inline: 1.1rem 0.6rem; border-radius: var(--_radius); }
  .row:hover { background: color-mix(in srgb, currentColor 5%, transparent); }
  li:focus-visible .row, .row:has(a:focus-visible) { outline: 2px solid var(--_accent); outline-offset: -2px; }
  .unread .row::before { content: ""; position: absolute; inset-inline-start: 0.3rem; inset-block-start: calc(var(--_gap) + 0.5rem); border: 0.25rem solid var(--_accent); border-radius: 50%; }
  .body { flex: 1; min-inline-size: 0; }
  .head { display: flex; gap: 0.5rem; }
  [part=sender], [part=subject] { flex: 1; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
  .unread [part=subject] { font-weight: 600; }
  [part=subject] a { color: inherit; text-decoration: none; outline: 0; }
  [part=subject] a::after { content: ""; position: absolute; inset: 0; }
  .row .text { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; color: var(--_muted); font-size: 0.875rem; }
  [part=actions] { position: relative; z-index: 1; inline-size: fit-content; }
  .actions, .menu { position: absolute; z-index: 1; inset-block-start: 0.35rem; inset-inline-end: 0.4rem; display: flex; background: var(--_surface); border-radius: var(--_radius); }
  @media (hover: hover) {
    .menu { display: none; }
    li:not(:focus-within) .row:not(:hover) .actions { opacity: 0; }
  }
  @media (hover: none) {
    .head { padding-inline-end: 2rem; }
    .actions { inset-inline-end: 2.4rem; }
    .row:not(.open) .actions { display: none; }
  }`;

/** The group of a message, by its day. @param {Message} message */
export function groupOf({ sent_at }) {
  const days = Math.max(0, daysAgo(Date.parse(sent_at)));
  return days > 1 ? say("earlier") : relative(-days, "day");
}

/** What receives the focus in a row: its link if it has one. @param {HTMLElement} row */
export const focusOf = (row) => /** @type {HTMLElement} */ (row.querySelector("[part=subject] a") ?? row);

/** What Tab reaches in a row. @param {HTMLElement} row */
export const stopsOf = (row) => [focusOf(row), ...row.querySelectorAll("button, [part=actions] a")];

/**
 * @param {Message} message
 * @param {Record<"read" | "archive" | "remove", (id: string) => void>} actions
 * @param {Widget} widget
 */
export function drawRow(message, { read, archive, remove }, widget) {
  const { id, level, subject, text, sent_at, url } = message;
  const at = Date.parse(sent_at);
  const time = timeElement(sent_at);
  const isUnread = el("span", { class: "sr" }, say("isUnread"));
  const mark = () => {
    focusOf(row).focus();
    read(id);
  };
  const marking = labelled(say("read", { name: subject }), mark, icon("read"));
  const target = opener({ url, text: subject }, () => read(id));
  const toggle = () => {
    menu.ariaExpanded = String(box.classList.toggle("open"));
  };
  const menu = labelled(say("menu", { name: subject }), toggle, icon("menu"));
  menu.className = "menu";
  menu.ariaExpanded = "false";
  const sender = el("span", { part: "sender", class: "muted" }, isUnread, ` ${senderOf(message)}`);
  const box = el(
    "div",
    { class: "row" },
    picture(message),
    el(
      "div",
      { class: "body" },
      el("div", { class: "head" }, sender, time),
      el("div", { part: "subject" }, target ?? subject),
      text ? el("p", { part: "text", class: "text" }, text) : null,
      message.actions ? actionsOf(message.actions, widget, () => read(id)) : null,
    ),
    menu,
    el(
      "div",
      { class: "actions" },
      marking,
      labelled(say("archive", { name: subject }), () => archive(id), icon("archive")),
      labelled(say("remove", { name: subject }), () => remove(id), icon("remove")),
    ),
  );
  const row = el("li", { part: "message", "data-id": id }, box);
  for (const stop of stopsOf(row)) stop.setAttribute("tabindex", "-1");

  /**
   * @param {Message} now
   * @param {string} group  its name, where this is the first row of the group
   * @param {number} index  of all rows
   * @param {number} count
   */
  function update({ read: isRead }, group, index, count) {
    row.className = isRead ? level : `${level} unread`;
    isUnread.hidden = marking.hidden = Boolean(isRead);
    if (group) row.dataset.group = group;
    else delete row.dataset.group;
    row.ariaPosInSet = String(index + 1);
    row.ariaSetSize = String(count);
    time.textContent = Number.isNaN(at) ? "" : ago(at);
  }
  return { row, update };
}
