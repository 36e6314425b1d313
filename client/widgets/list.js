/**
 * The list of messages, in `<notifier-inbox>` and in the bell's panel. A page loads it when it is first shown.
 *
 * Owns: the rows, their filter, keys and actions. Must not know: panels, pop-ups, tasks.
 */

import { el } from "./dom.js";
import { keep, kept } from "./kept.js";
import { drawRow, focusOf, groupOf, MESSAGE_CSS, stopsOf } from "./message_row.js";
import { PLACEHOLDER_CSS, placeholder } from "./placeholder.js";
import { createRows } from "./rows.js";
import { say } from "./texts.js";
import { undoLine } from "./undo.js";

/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("./base.js").Store} Store */
/** @typedef {import("./base.js").Widget} Widget */
/** @typedef {"all" | "unreadOnly" | "archived"} Filter */

const MINUTE_MS = 60_000;
const ARCHIVED = "archived"; // the list of ids that are kept on the device

const CSS = `${PLACEHOLDER_CSS}${MESSAGE_CSS}
  h2 { font-size: 1rem; margin: 0; outline: 0; }
  [part=filter] { display: flex; flex-wrap: wrap; gap: 0.25rem; margin-block: 0.4rem; }
  [part=filter] button { border-color: var(--_line); border-radius: 1rem; padding-inline: 0.7rem; }
  [part=filter] [aria-pressed=true] { border-color: var(--_accent); color: var(--_accent); font-weight: 600; }
  @media (forced-colors: active) { [part=filter] [aria-pressed=true] { background: SelectedItem; color: SelectedItemText; forced-color-adjust: none; } }
  [part=more] { inline-size: 100%; color: var(--_accent); border-block-start: 1px solid var(--_line); }
  [part=undo] { position: sticky; inset-block-end: 0; z-index: 2; padding: 0.4rem 0.6rem; background: var(--_surface); border: 1px solid var(--_line); border-radius: var(--_radius); }
  [part=undo] button { color: var(--_accent); }`;

/**
 * The list, updated from the store while the widget is shown, before `end`.
 *
 * @param {Widget} widget
 * @param {Store} store
 * @param {HTMLElement | null} scroller  the box that it is scrolled in; null: the window
 * @param {Element} note  see connectionNote
 */
export function showList(widget, store, scroller, note) {
  /** @type {Map<string, ReturnType<typeof drawRow> & {content: string}>} */
  const rows = new Map();
  /** @type {Filter} */
  let filter = "all";
  let isIdle = true; // no older messages are being loaded, and the last load of them did not fail
  let isLoading = false;
  const title = el("h2", { tabindex: "-1" }, say("messages"));
  const all = el("button", { type: "button", part: "button" }, say("readAll"));
  const filters = el("div", { part: "filter", role: "group", "aria-label": say("messages") });
  const list = el("ol", { part: "list" });
  const { parts, show, isAtEnd } = createRows(list, scroller);
  const { line, offer } = undoLine(widget, title);
  const { box, show: instead } = placeholder("none", "bell", () => (isIdle ? store.reload() : older(true)), list);
  const more = el("button", { type: "button", part: "more" }, say("more"));
  all.addEventListener("click", () => {
    title.focus();
    actions.read("all");
  });
  more.addEventListener("click", () => older(true));
  for (const name of /** @type {Filter[]} */ (["all", "unreadOnly", "archived"])) {
    const choice = el("button", { type: "button", "aria-pressed": String(name === filter) }, say(name));
    choice.addEventListener("click", () => {
      filter = name;
      for (const other of filters.children) other.ariaPressed = String(other === choice);
      draw();
    });
    filters.append(choice);
  }

  const actions = {
    /** @param {string} id @param {Promise<boolean>} [consent] */
    read: (id, consent) => widget.attempt("notRead", () => store.read(id, consent)),
    archive(/** @type {string} */ id) {
      const isArchived = filter !== "archived";
      keep(ARCHIVED, [id], isArchived);
      draw();
      if (!isArchived) return;
      const consent = offer("archived");
      actions.read(id, consent);
      consent.then((isWanted) => {
        if (!isWanted) keep(ARCHIVED, [id], false);
        draw();
      });
    },
    remove(/** @type {string} */ id) {
      const consent = offer("removed");
      widget.attempt("notRemoved", () => store.remove(id, consent));
    },
  };

  function draw() {
    const { messages, unread, more: isMore, loaded, failed } = store.state;
    const archived = kept(ARCHIVED);
    const listed = messages.filter(
      ({ id, read }) => archived.has(id) === (filter === "archived") && !(read && filter === "unreadOnly"),
    );
    const before = /** @type {HTMLElement[]} */ ([...list.children]);
    const focused = before.findIndex((row) => row.contains(widget.root.activeElement));
    const ids = listed.map(({ id }) => id);
    show(ids, (id, index) => {
      const content = JSON.stringify({ ...listed[index], read: null });
      const known = rows.get(id);
      const entry = known?.content === content ? known : { ...drawRow(listed[index], actions, widget), content };
      rows.set(id, entry);
      const group = groupOf(listed[index]);
      entry.update(listed[index], index && group === groupOf(listed[index - 1]) ? "" : group, index, ids.length);
      return entry.row;
    });
    for (const [id, { row }] of rows) if (!row.isConnected) rows.delete(id);
    if (focused >= 0 && !before[focused].isConnected) {
      const anew = rows.get(before[focused].dataset.id ?? "")?.row; // the message was corrected
      const others = [...before.slice(focused), ...before.slice(0, focused).reverse()];
      const near = anew ?? others.find((row) => row.isConnected);
      (near ? focusOf(near) : title).focus({ preventScroll: true });
    }
    const first = /** @type {HTMLElement | null} */ (list.firstElementChild);
    if (first && !list.querySelector("[tabindex='0']")) choose(first);
    /** @type {Record<string, number>} */
    const most = { unreadOnly: unread, archived: archived.size };
    more.hidden = !isMore || ids.length >= most[filter];
    all.hidden = !unread;
    if (isIdle && !more.hidden && isAtEnd()) older();
    const isKnown = loaded && (more.hidden || ids.length > 0);
    instead(isKnown, failed || !(isIdle || isLoading), ids.length, filter === "all" ? "none" : "nothing");
  }

  /** Makes a row the list's stop for Tab, with its actions. @param {HTMLElement} row */
  function choose(row) {
    for (const stop of list.querySelectorAll("[tabindex='0']")) stop.setAttribute("tabindex", "-1");
    for (const stop of stopsOf(row)) stop.setAttribute("tabindex", "0");
  }

  /** @param {boolean} [isAsked]  by the button, which may be gone afterwards: the first older message gets the focus */
  function older(isAsked) {
    const count = list.childElementCount;
    widget.attempt("notMore", async () => {
      isIdle = false;
      isLoading = true;
      try {
        const stored = await store.older();
        isIdle = true;
        if (stored && filter === ARCHIVED) forgetGone(stored);
      } finally {
        isLoading = false;
        draw();
      }
      const next = /** @type {HTMLElement | undefined} */ (list.children[count]);
      if (isAsked) (next ? focusOf(next) : title).focus();
    });
  }

  /** Archived messages that the service has no longer would be looked for each time. @param {string[]} stored  all that it has */
  function forgetGone(stored) {
    const gone = [...kept(ARCHIVED)].filter((id) => !stored.includes(id));
    keep(ARCHIVED, gone, false);
  }

  let frame = 0;
  const changed = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
  list.addEventListener("focusin", ({ target }) => choose(rowOf(target)));
  list.addEventListener("keydown", (event) => pressed(event, actions));
  const early = { capture: true, passive: true };
  if (scroller) widget.listen(scroller, "scroll", changed, early); // in the widget: its events do not reach the window
  for (const type of ["scroll", "resize", "storage"]) widget.listen(window, type, changed, early);
  const clock = setInterval(draw, MINUTE_MS);
  widget.ends.push(
    store.subscribe(draw),
    () => clearInterval(clock),
    () => cancelAnimationFrame(frame),
  );
  widget.adopt(CSS);
  note.before(el("div", { class: "line" }, title, all), filters);
  note.after(...parts, box, more, line);
  draw(); // its rows have a height now
  return { title, draw };
}

/** @param {EventTarget | null} target */
const rowOf = (target) => /** @type {HTMLElement} */ (/** @type {Element} */ (target).closest("li"));

/**
 * @param {KeyboardEvent} event
 * @param {Record<"read" | "archive" | "remove", (id: string) => void>} actions
 */
function pressed(event, { read, archive, remove }) {
  const { key, code, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const row = rowOf(target);
  const id = row.dataset.id ?? "";
  const step = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[key];
  /** @type {Record<string, ((id: string) => void) | undefined>} */
  const keys = { e: archive, u: read, delete: remove, enter: target === row ? read : undefined };
  const name = (/[\u0400-\u06ff]/.test(key) ? code.slice(3) : key).toLowerCase(); // on Cyrillic, Hebrew and Arabic layouts the letter's place
  if (step) focusOf(/** @type {HTMLElement} */ (step)).focus();
  else if (!(event.repeat && name in keys)) {
    // A key that is held acts once: the focus is on another row by now.
    if (keys[name]) keys[name](id);
    else if (!key.startsWith("Arrow")) return;
  }
  event.preventDefault();
}
