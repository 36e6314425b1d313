/**
 * One stream that stays open: its state, reconnecting, the watchdog, the cursor.
 *
 * Owns: when to open, to give up and to try again. Must not know: listeners, inboxes, pages beyond their wake-up events.
 *
 *     start -> (hello) -> live -> ended -> wait -> start ...        stop: 204, 401 without a new token, 403, close()
 */

import { openEventSource, openFetch } from "./transport.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").StateDetail} StateDetail */
/** @typedef {import("./transport.js").End} End */
/** @typedef {import("./transport.js").Link} Link */
/** @typedef {ReturnType<typeof createPlace>} Place */
/** @typedef {{close: () => void, listen: (type: string) => void, readonly state: State}} Connection */

/**
 * @typedef {object} Listener  What it hears must not throw.
 * @property {(event: WireEvent, data: any, key: any) => void} onEvent  `key`: by what a repeat is known, if by anything
 * @property {(state: State, detail: StateDetail) => void} onState
 */

const STEP_MS = 1000;
const LONGEST_STEP_MS = 30_000;
const LONGEST_WAIT_MS = 600_000; // whatever a server asks for
const PROVEN_MS = 10_000; // a stream that lives this long was a success
const REMEMBERED = 500; // a repeat that comes later than so many events after the first is taken for new

/**
 * How long to wait after a failure: what the server asked for, and on top a random part of a step that doubles
 * ("exponential backoff and full jitter", AWS Architecture Blog, 2015).
 *
 * @param {number} failures  in a row before this one
 * @param {number} [atLeastMs]
 */
export function backoffMs(failures, atLeastMs = 0) {
  return atLeastMs + Math.random() * Math.min(LONGEST_STEP_MS, STEP_MS * 2 ** failures);
}

/**
 * What a page has had: the last event id, and by what repeats are known. It outlives connections.
 *
 * The service sends nothing twice on purpose; a proxy that repeats a request, or a replay after a cut, may.
 *
 * @param {string} cursor
 */
export function createPlace(cursor) {
  /** @type {Set<string>} */
  const seen = new Set();
  return {
    cursor,
    forget: () => seen.clear(),
    /** @param {any} key  whether it was had before; from now on it was */
    had(key) {
      if (!key) return false;
      if (seen.has(key)) return true;
      seen.add(key);
      const [oldest] = seen;
      if (seen.size > REMEMBERED) seen.delete(oldest);
      return false;
    },
  };
}

/**
 * Opens the stream and keeps it open until `close`.
 *
 * @param {object} options
 * @param {URL} options.url
 * @param {import("./token.js").Tokens | null} options.tokens
 * @param {import("./request.js").Request} options.request
 * @param {boolean} options.native  use the browser's EventSource while it works
 * @param {Place} options.place
 * @param {Set<string>} options.types  event names that are listened to
 * @param {Listener} options.listener
 * @returns {Connection}
 */
export function openConnection({ url, tokens, request, native, place, types, listener: { onEvent, onState } }) {
  /** @type {State} */
  let state = "connecting";
  /** @type {Link | null} */
  let link = null; // the attempt under way; null while waiting
  let done = false;
  let failures = 0;
  let refusals = 0; // 401 in a row
  let retryMs = 0;
  let heartbeatMs = 15_000;
  let seenAt = 0; // the last byte
  let helloAt = 0; // 0: not yet in this attempt
  let patient = false; // the server said when to come back
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer; // the watchdog while there is a link, the wait while there is none

  const hooks = new AbortController();
  hook(hooks.signal, {
    online: () => wake(true),
    pageshow: ({ persisted }) => persisted && wake(true),
    visibilitychange: () => document.hidden || wake(false),
  });
  start();
  return {
    close: () => stop("closed"),
    listen(/** @type {string} */ type) {
      if (types.has(type)) return;
      types.add(type);
      link?.listen(type);
    },
    get state() {
      return state;
    },
  };

  function start() {
    drop();
    helloAt = 0;
    seenAt = Date.now();
    /** @type {Link} */
    let mine;
    // What an attempt says after it was given up is not heard.
    const heard = (/** @type {(value: any) => void} */ fn) => (/** @type {any} */ value) => mine === link && fn(value);
    const listener = {
      onBytes: () => (seenAt = Date.now()),
      onEvent: heard(received),
      onRetry: (/** @type {number} */ ms) => (retryMs = Math.min(ms, LONGEST_WAIT_MS)),
      onEnd: heard(ended),
    };
    link = mine = native
      ? openEventSource(url, place.cursor, types, listener)
      : openFetch(url, place.cursor, request, listener);
    watch();
  }

  function watch() {
    const limitMs = 2.5 * heartbeatMs;
    const leftMs = seenAt + limitMs - Date.now();
    if (leftMs <= 0) return ended({ status: 0 }, "silent");
    timer = setTimeout(watch, Math.min(leftMs, limitMs)); // a clock that was set back must not delay it
  }

  /** @param {WireEvent} event */
  function received(event) {
    const data = read(event.data);
    const key = keyOf(event, data);
    if (place.had(key)) return;
    if (event.event === "hello") greeted(data);
    if (event.event === "reset") place.forget();
    if (event.event === "degraded") become(data?.degraded ? "degraded" : "live", "broker");
    onEvent(event, data, key);
    if (done) return;
    if (event.id) place.cursor = event.id;
    if (event.event === "bye") dismissed(data);
  }

  /** @param {any} hello */
  function greeted(hello) {
    helloAt = Date.now();
    refusals = 0;
    if (hello?.heartbeat_s > 0) heartbeatMs = 1000 * hello.heartbeat_s;
    clearTimeout(timer);
    watch();
    become("live", "hello");
  }

  /** @param {any} bye */
  function dismissed(bye) {
    const reason = String(bye?.reason);
    if (reason === "expired" || reason === "revoked") tokens?.refused();
    ended({ status: 200, afterMs: bye?.retry_ms }, reason);
  }

  /**
   * @param {End} end
   * @param {string} [reason]
   */
  function ended(
    { status, afterMs = 0, signedOut },
    reason = !status ? "network" : status === 200 ? "ended" : `status ${status}`,
  ) {
    const wasLive = helloAt > 0;
    failures = wasLive && Date.now() - helloAt > PROVEN_MS ? 0 : failures + 1;
    drop();
    if (status === 204) return stop("stopped");
    if (status === 403) return stop("refused");
    if (signedOut || (status === 401 && !tokens?.refused(""))) return stop("unauthorized");
    if (status === 401 && !refusals++) return start();
    if (status === undefined) {
      // EventSource hides the status. From here on `fetch` reads the stream: it sees the answer, and whether to stop.
      native = false;
      return start();
    }
    become(wasLive ? "connecting" : "offline", reason);
    patient = afterMs > 0;
    timer = setTimeout(start, patient ? Math.min(afterMs, LONGEST_WAIT_MS) : backoffMs(failures, retryMs));
  }

  /** @param {string} reason */
  function stop(reason) {
    if (done) return;
    done = true;
    drop();
    hooks.abort();
    become("offline", reason);
  }

  function drop() {
    clearTimeout(timer);
    link?.close();
    link = null;
  }

  /**
   * The page came back. A wait of our own is cut short; one that the server asked for is not: it spreads its clients.
   *
   * @param {boolean} cut  the network was away: an open stream is dead even if nobody has told it
   */
  function wake(cut) {
    if (link ? cut || Date.now() - seenAt > 2.5 * heartbeatMs : !patient) start();
  }

  /**
   * @param {State} next
   * @param {string} reason
   */
  function become(next, reason) {
    if (next === state && !done) return;
    state = next;
    onState(state, { reason, final: done });
  }

  /**
   * @param {WireEvent} event
   * @param {any} data
   */
  function keyOf({ event, id }, data) {
    // An event without an id of its own carries the id before it: such a one is never a repeat.
    return event === "message" ? data?.id : id !== place.cursor && event !== "hello" && event !== "reset" && id;
  }
}

/** @param {string} data  JSON, or anything else */
export function read(data) {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}

/**
 * Listens to what happens to the page (and in Node to nothing) until the signal.
 *
 * @param {AbortSignal} signal
 * @param {Record<string, (event: any) => void>} handlers  by type
 */
export function hook(signal, handlers) {
  // `visibilitychange` bubbles from the document to here.
  for (const type in handlers) globalThis.addEventListener?.(type, handlers[type], { signal });
}
