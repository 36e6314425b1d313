/**
 * The line that says that a page is not live, and what follows: in the inbox, the bell's panel, the tasks, a bar, output. It also says
 * which call of the widget failed.
 *
 * Owns: when it shows, its words and its button. Must not know: how a connection is kept.
 */

import { el, labelled } from "./dom.js";
import { duration, say } from "./texts.js";

/** @typedef {import("../types.js").ConnectionState} ConnectionState */

export const PATIENCE_MS = 3000; // a shorter interruption is not shown
const SECOND_MS = 1000;

/**
 * The line of one widget. It is empty while events arrive and no call has failed.
 *
 * @param {import("./base.js").Widget} widget
 * @param {import("./base.js").Store} store
 * @param {(isStale: boolean, words: string) => void} [onShow]  `isStale`: what the widget shows may be old. The note has it as a class
 */
export function connectionNote(widget, store, onShow = () => {}) {
  const text = el("span", { "aria-live": "polite", part: "connection-text" });
  const count = el("span", { part: "connection-next" }); // changes each second, so it is not announced
  const retry = labelled(say("retryNow"), store.retry);
  const reload = labelled(say("reloadPage"), () => location.reload());
  const note = el("div", { part: "connection", class: "note", tabindex: "-1" }, text, count);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let failure = "";
  widget.report = (words) => {
    failure = words;
    draw();
  };

  function draw() {
    clearTimeout(timer);
    const { connectionState } = store.state;
    const { state, reason, since, nextTryAt } = connectionState;
    const inMs = state === "open" || reason === "closed" ? Infinity : since + PATIENCE_MS - Date.now();
    const isShown = inMs <= 0;
    const words = isShown ? wordsOf(connectionState) : "";
    const waitMs = isShown ? nextTryAt - Date.now() : 0;
    const shown = [failure, words].filter(Boolean).join(" · ");
    if (text.textContent !== shown) text.textContent = shown; // the same words would be announced again
    count.textContent = waitMs > 0 ? say("nextTry", { time: duration(Math.ceil(waitMs / SECOND_MS), "second") }) : "";
    offer(!isShown || state === "polling" ? null : state === "refused" ? reload : retry);
    const isStale = isShown && state !== "polling";
    note.classList.toggle("shown", shown !== "");
    note.classList.toggle("stale", isStale);
    onShow(isStale, words);
    if (waitMs > 0) timer = setTimeout(draw, waitMs % SECOND_MS || SECOND_MS);
    else if (!isShown && inMs < Infinity) timer = setTimeout(draw, inMs);
  }

  function offer(/** @type {Element | null} */ action) {
    const shown = note.querySelector("button");
    if (shown === action) return;
    if (shown && widget.root.activeElement === shown) note.focus();
    shown?.remove();
    if (action) note.append(action);
  }

  widget.ends.push(store.subscribe(draw), () => {
    clearTimeout(timer);
    widget.report = () => {};
  });
  return note;
}

/** @param {ConnectionState} state */
function wordsOf({ state, reason }) {
  if (state !== "refused") return say(/** @type {Exclude<ConnectionState["state"], "open" | "refused">} */ (state));
  return say(reason === "unauthorized" ? "signedOut" : reason === "refused" ? "notAllowed" : "stopped");
}
