/**
 * One attempt at the stream: with `fetch` (a token goes in a header) or with the browser's EventSource (a cookie).
 *
 * Owns: opening, reading, telling how it ended. Must not know: when to try again, what events mean.
 */

import { createParser } from "./parse.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */

/**
 * @typedef {object} End
 * @property {number} [status]   of the answer; 0: the network failed; missing: refused, and nobody tells why
 * @property {number} [afterMs]  what the answer said about coming back
 * @property {boolean} [signedOut]  there is no token to be had
 */

/**
 * @typedef {object} Listener
 * @property {() => void} onBytes             something came, if only a comment
 * @property {(event: WireEvent) => void} onEvent
 * @property {(ms: number) => void} onRetry
 * @property {(end: End) => void} onEnd       once, and never after `close`
 */

/** @typedef {{close: () => void, listen: (type: string) => void}} Link */

/**
 * @param {URL} url
 * @param {string} cursor
 * @param {import("./request.js").Request} request
 * @param {Listener} listener
 * @returns {Link}
 */
export function openFetch(url, cursor, request, listener) {
  const abort = new AbortController();
  const { signal } = abort;
  read()
    .catch(() => ({ status: 0 }))
    .then((end) => {
      if (!signal.aborted) listener.onEnd(end);
      abort.abort();
    });
  return { close: () => abort.abort(), listen() {} };

  /** @returns {Promise<End>} */
  async function read() {
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream" };
    if (cursor) headers["Last-Event-ID"] = cursor;
    const response = await request(url, { headers, signal });
    if (!response) return { status: 401, signedOut: true };
    const { status, body, headers: told } = response;
    if (status !== 200 || !body || !/^text\/event-stream\b/i.test(told.get("Content-Type") ?? "")) {
      return { status, afterMs: 1000 * Number(told.get("Retry-After")) };
    }
    const { onRetry } = listener;
    const parser = createParser({
      onRetry,
      lastEventId: cursor,
      onEvent: (event) => signal.aborted || listener.onEvent(event),
    });
    for (const reader = body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return { status };
      listener.onBytes();
      parser.push(value);
    }
  }
}

/**
 * It hears only the types it is told of, and cannot say why it was refused (`status` is then missing).
 *
 * @param {URL} url
 * @param {string} cursor
 * @param {Iterable<string>} types
 * @param {Omit<Listener, "onRetry">} listener
 * @returns {Link}
 */
export function openEventSource(url, cursor, types, listener) {
  const target = new URL(url);
  if (cursor) target.searchParams.set("last_event_id", cursor);
  const source = new EventSource(target, { withCredentials: true });
  source.onopen = listener.onBytes;
  source.onerror = () => {
    const refused = source.readyState === EventSource.CLOSED;
    // Its own reconnecting has no jitter and no limit: it is not left to it.
    source.close();
    listener.onEnd({ status: refused ? undefined : 0 });
  };
  for (const type of types) listen(type);
  return { close: () => source.close(), listen };

  /** @param {string} type */
  function listen(type) {
    source.addEventListener(type, (/** @type {MessageEvent<string>} */ { data, lastEventId: id }) => {
      if (data === undefined) return; // its own "open" or "error", not an event of the stream
      listener.onBytes();
      listener.onEvent({ event: type, data, id });
    });
  }
}
