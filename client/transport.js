/**
 * One attempt at the stream: with `fetch` (a token goes in a header) or with the browser's EventSource (a cookie).
 *
 * Owns: opening, reading, telling how it ended. Must not know: when to try again, what events mean.
 */

import { createParser } from "./parse.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./token.js").Tokens} Tokens */

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
 * @param {Tokens | null} tokens  null: the cookie is the token
 * @param {typeof globalThis.fetch} fetch
 * @param {Listener} listener
 * @returns {Link}
 */
export function openFetch(url, cursor, tokens, fetch, listener) {
  const abort = new AbortController();
  let closed = false;
  read().catch(() => ({ status: 0 })).then((end) => {
    abort.abort();
    if (!closed) listener.onEnd(end);
  });
  return { close: () => (closed = true, abort.abort()), listen() {} };

  /** @returns {Promise<End>} */
  async function read() {
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream" };
    if (cursor) headers["Last-Event-ID"] = cursor;
    const token = await tokens?.get();
    if (token === "") return { status: 401, signedOut: true };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (closed) return { status: 0 };
    const response = await fetch(url, {
      headers, signal: abort.signal, cache: "no-store", credentials: tokens ? "same-origin" : "include",
    });
    const { status, body } = response;
    if (status === 401) tokens?.refused(token);
    if (status !== 200 || !body || !/^text\/event-stream\b/i.test(response.headers.get("Content-Type") ?? "")) {
      return { status, afterMs: 1000 * Number(response.headers.get("Retry-After")) };
    }
    const { onRetry } = listener;
    const parser = createParser({ onRetry, lastEventId: cursor, onEvent: (event) => closed || listener.onEvent(event) });
    for (const reader = body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done || closed) return { status };
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
