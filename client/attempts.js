/**
 * Attempts at the stream, one at a time: the watchdog of each, and the wait before the next.
 *
 * Owns: timers, the backoff, page events that end a wait. Must not know: what events and statuses mean.
 */

import { onPage } from "./page.js";
import { readData } from "./parse.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./transport.js").End} End */
/** @typedef {import("./transport.js").Link} Link */

const STEP_MS = 1000;
const MAX_STEP_MS = 30_000;
const MAX_WAIT_MS = 600_000; // however long the server asks to wait
const PROVEN_MS = 10_000; // an attempt that was open for longer was a success

/**
 * The wait after a failure: what the server asked for, plus a random part of a step that doubles ("exponential backoff
 * and full jitter", AWS Architecture Blog, 2015).
 *
 * @param {number} failures  in a row before this one
 * @param {number} [atLeastMs]
 */
export function backoffMs(failures, atLeastMs = 0) {
  return atLeastMs + Math.random() * Math.min(MAX_STEP_MS, STEP_MS * 2 ** failures);
}

/**
 * Starts the first attempt. The caller decides what follows the end of one: `start`, `retry` or `close`.
 *
 * @param {import("./transport.js").OpenLink} openLink
 * @param {import("./position.js").Position} position
 * @param {(event: WireEvent) => void} onEvent
 * @param {(end: End, wasOpen: boolean, reason?: string) => void} onEnd
 */
export function createAttempts(openLink, position, onEvent, onEnd) {
  /** @type {Link | null} */
  let link = null; // null: no attempt is running
  let failures = 0; // in a row
  let retryMs = 0; // the stream's `retry` field: the least wait
  let silenceMs = 37_500; // longest time without a byte: 2.5 heartbeats
  let lastByteAt = 0;
  let openedAt = 0; // 0: no hello in this attempt
  let isFixed = false; // the server set the time of the next attempt
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer; // the watchdog while an attempt runs, else the wait for the next
  const unhook = onPage({
    online: () => wake(true),
    pageshow: ({ persisted }) => persisted && wake(true),
    visibilitychange: () => document.hidden || wake(false),
  });
  start();
  return { start, end, retry, listen: (/** @type {string} */ type) => link?.listen(type), close };

  function start() {
    drop();
    openedAt = 0;
    lastByteAt = Date.now();
    const feed = () => {
      lastByteAt = Date.now();
    };
    const setRetry = (/** @type {number} */ ms) => {
      retryMs = Math.min(ms, MAX_WAIT_MS);
    };
    link = openLink(position.cursor, feed, receive, setRetry, end);
    watch();
  }

  function receive(/** @type {WireEvent} */ event) {
    if (event.event === "hello") open(readData(event.data));
    onEvent(event);
  }

  /** The service accepted the attempt. */
  function open(/** @type {any} */ hello) {
    openedAt = Date.now();
    if (hello?.heartbeat_s > 0) silenceMs = 2500 * hello.heartbeat_s;
    watch();
  }

  function watch() {
    clearTimeout(timer);
    const leftMs = lastByteAt + silenceMs - Date.now();
    if (leftMs <= 0) return end({ status: 0 }, "silent");
    timer = setTimeout(watch, Math.min(leftMs, silenceMs)); // a clock that was set back must not delay it
  }

  /**
   * Ends the running attempt.
   *
   * @param {End} result
   * @param {string} [reason]
   */
  function end(result, reason) {
    const wasOpen = openedAt > 0;
    failures = wasOpen && Date.now() - openedAt > PROVEN_MS ? 0 : failures + 1;
    drop();
    if (result.status === undefined) start();
    else onEnd(result, wasOpen, reason);
  }

  /** Starts the next attempt after this time; 0: after a backoff. */
  function retry(/** @type {number} */ afterMs) {
    isFixed = afterMs > 0;
    timer = setTimeout(start, isFixed ? Math.min(afterMs, MAX_WAIT_MS) : backoffMs(failures, retryMs));
  }

  /** Starts an attempt now. A wait that the server set is kept: it spreads the load of returning clients. */
  function wake(/** @type {boolean} */ wasOffline) {
    // After a network outage an open stream is dead, though the browser may not have noticed.
    if (link ? wasOffline || Date.now() - lastByteAt > silenceMs : !isFixed) start();
  }

  function close() {
    drop();
    unhook();
  }

  function drop() {
    clearTimeout(timer);
    link?.close();
    link = null;
  }
}
