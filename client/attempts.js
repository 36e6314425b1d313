/**
 * Attempts at the stream, one at a time, and the wait before the next.
 *
 * Owns: the backoff, page events that end a wait. Must not know: what events and statuses mean.
 */

import { createFallback } from "./fallback.js";
import { onPage } from "./page.js";
import { readData } from "./parse.js";
import { createWatchdog } from "./watchdog.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./transport.js").End} End */
/** @typedef {import("./transport.js").Link} Link */

/**
 * @typedef {object} Callbacks
 * @property {(event: WireEvent, isPoll: boolean) => void} onEvent
 * @property {(end: End, wasOpen: boolean, reason?: string) => void} onEnd  the caller decides what follows: `start`,
 *   `retry` or `close`
 * @property {(isProbe: boolean) => void} onStart  an attempt starts. `isProbe`: only the transport changes
 * @property {(at: number) => void} onHurry  the next attempt starts then, ms since 1970
 */

const STEP_MS = 1000;
const MAX_STEP_MS = 30_000;
const MAX_SEEN_MS = 5000; // the longest wait while a user looks at the page
const MAX_WAIT_MS = 600_000; // however long the server asks to wait
const PROVEN_MS = 10_000; // an attempt that was open for longer was a success
const POLLING_MS = 300_000; // after polling for this long, the stream is tried again

/**
 * The wait after a failure: what the server asked for, plus a random part of a step that doubles ("exponential backoff
 * and full jitter", AWS Architecture Blog, 2015).
 *
 * @param {number} failures  in a row before this one
 * @param {number} [atLeastMs]
 * @param {number} [mostMs]  of both together, unless the server asked for more
 */
export function backoffMs(failures, atLeastMs = 0, mostMs = atLeastMs + MAX_STEP_MS) {
  return atLeastMs + Math.random() * Math.max(0, Math.min(mostMs - atLeastMs, STEP_MS * 2 ** failures));
}

/**
 * Starts the first attempt.
 *
 * @param {import("./transport.js").OpenLink} openStream
 * @param {import("./transport.js").OpenLink} openPoll
 * @param {import("./position.js").Position} position
 * @param {Callbacks} callbacks
 */
export function createAttempts(openStream, openPoll, position, { onEvent, onEnd, onStart, onHurry }) {
  const wait = createWait(() => start(), onHurry);
  let failures = 0; // in a row
  let retryMs = 0; // the stream's `retry` field: the least wait
  const setRetry = (/** @type {number} */ ms) => {
    retryMs = Math.min(ms, MAX_WAIT_MS);
  };
  const attempt = createAttempt(openStream, openPoll, position, setRetry, { onEvent, onEnd: ended, onStart });
  const unhook = onPage({
    online: restart,
    offline: () => attempt.isRunning() && attempt.end({ status: 0 }, "network"),
    pageshow: ({ persisted }) => persisted && restart(),
    visibilitychange: () => document.hidden || wake(),
  });
  start();
  return { start, end: attempt.end, retry, wake, restart, hurry: wait.hurry, listen: attempt.listen, close };

  function start() {
    wait.end();
    attempt.start();
  }

  function ended(/** @type {End} */ end, /** @type {number} */ openMs, /** @type {string | undefined} */ reason) {
    failures = openMs > PROVEN_MS ? 0 : failures + 1;
    onEnd(end, openMs > 0, reason);
  }

  /** Starts the next attempt after this time; 0: after a backoff. Returns when, in ms since 1970. */
  function retry(/** @type {number} */ afterMs) {
    const isSeen = globalThis.document?.hidden === false;
    return afterMs > 0
      ? wait.begin(Math.min(afterMs, MAX_WAIT_MS), true)
      : wait.begin(backoffMs(failures, retryMs, isSeen ? MAX_SEEN_MS : undefined), false);
  }

  /** The page is looked at: tests a stream, ends a wait. A wait that the server set is kept, to spread the load. */
  function wake() {
    if (attempt.isRunning()) attempt.check();
    else if (wait.mayEnd()) start();
  }

  /** The network may be another: an open stream is dead, though the browser may not have noticed. */
  function restart() {
    attempt.forget();
    start();
  }

  function close() {
    wait.end();
    attempt.drop();
    unhook();
  }
}

/**
 * The running attempt, of which there is at most one.
 *
 * @param {import("./transport.js").OpenLink} openStream
 * @param {import("./transport.js").OpenLink} openPoll
 * @param {import("./position.js").Position} position
 * @param {(ms: number) => void} setRetry
 * @param {object} callbacks
 * @param {Callbacks["onEvent"]} callbacks.onEvent
 * @param {Callbacks["onStart"]} callbacks.onStart
 * @param {(end: End, openMs: number, reason?: string) => void} callbacks.onEnd  `openMs`: since its hello; 0: there was none
 */
function createAttempt(openStream, openPoll, position, setRetry, { onEvent, onStart, onEnd }) {
  const fallback = createFallback(openStream, openPoll);
  const watchdog = createWatchdog((wasSilent) => end({ status: 0 }, "silent", wasSilent));
  /** @type {Link | null} */
  let link = null; // null: no attempt is running
  let openedAt = 0; // 0: no hello in this attempt
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let polling; // until the stream is tried again
  const listen = (/** @type {string} */ type) => link?.listen(type);
  const { check } = watchdog;
  return { start, end, drop, check, listen, forget: () => fallback.tryStream(true), isRunning: () => link !== null };

  function start(isProbe = false) {
    drop();
    openedAt = 0;
    onStart(isProbe);
    watchdog.begin();
    link = fallback.open(position.cursor, watchdog.feed, receive, setRetry, end);
  }

  function receive(/** @type {WireEvent} */ event) {
    if (event.event === "hello") open(readData(event.data));
    onEvent(event, polling !== undefined);
  }

  /** The service accepted the attempt. */
  function open(/** @type {any} */ hello) {
    openedAt = Date.now();
    watchdog.open(hello);
    if (fallback.opened()) polling = setTimeout(probe, POLLING_MS);
  }

  function probe() {
    fallback.tryStream();
    start(true);
  }

  /** Ends the attempt. `wasSilent`: not one byte came. */
  function end(/** @type {End} */ result, /** @type {string | undefined} */ reason = undefined, wasSilent = false) {
    const openMs = openedAt && Math.max(1, Date.now() - openedAt);
    drop();
    if (fallback.ended(wasSilent) || result.status === undefined) start(true);
    else onEnd(result, openMs, reason);
  }

  function drop() {
    watchdog.stop();
    clearTimeout(polling);
    polling = undefined;
    link?.close();
    link = null;
  }
}

/**
 * The wait before an attempt.
 *
 * @param {() => void} start
 * @param {(at: number) => void} onHurry
 */
function createWait(start, onHurry) {
  let at = 0; // ms since 1970; 0: no wait
  let isFixed = false; // the server set it
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return { begin, hurry, end, mayEnd: () => at > 0 && !isFixed };

  function begin(/** @type {number} */ ms, /** @type {boolean} */ fixed) {
    end();
    isFixed = fixed;
    timer = setTimeout(start, ms);
    at = Date.now() + ms;
    return at;
  }

  /** A user looks at the page: shortens a wait. */
  function hurry() {
    if (!isFixed && at > Date.now() + MAX_SEEN_MS) onHurry(begin(MAX_SEEN_MS * Math.random(), false));
  }

  function end() {
    clearTimeout(timer);
    at = 0;
  }
}
