/**
 * One attempt at the stream: with `fetch` (the token goes in a header) or with the browser's EventSource (a cookie).
 *
 * Owns: opening, reading, and the report of how an attempt ended. Must not know: when to retry, what events mean.
 */

import { createParser } from "./parse.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */

/**
 * @typedef {object} End  How an attempt ended.
 * @property {number} [status]  of the response; 0: network failure; undefined: EventSource was refused, which hides the
 *   status. From then on attempts use `fetch`
 * @property {number} [afterMs]  the wait that the response asks for
 * @property {boolean} [isSignedOut]  there is no token: no user is logged in
 */

/** @typedef {{close: () => void, listen: (type: string) => void}} Link  a running attempt */

/**
 * @callback OpenLink  Starts an attempt.
 * @param {string} cursor
 * @param {() => void} onBytes  bytes arrived, perhaps a comment only
 * @param {(event: WireEvent) => void} onEvent
 * @param {(ms: number) => void} onRetry  the stream's `retry` field
 * @param {(end: End) => void} onEnd  called once, and not after `close`
 * @returns {Link}
 */

/**
 * Attempts with `fetch`.
 *
 * @param {URL} url
 * @param {import("./request.js").Request} request
 * @returns {OpenLink}
 */
export function withFetch(url, request) {
  return (cursor, onBytes, onEvent, onRetry, onEnd) => {
    const controller = new AbortController();
    const { signal } = controller;
    read()
      .catch(() => ({ status: 0 }))
      .then((end) => {
        if (!signal.aborted) onEnd(end);
        controller.abort();
      });
    return { close: () => controller.abort(), listen() {} };

    /** @returns {Promise<End>} */
    async function read() {
      const headers = { Accept: "text/event-stream", ...(cursor && { "Last-Event-ID": cursor }) };
      const response = await request(url, { headers, signal });
      if (!response) return { status: 401, isSignedOut: true };
      const { status, body } = response;
      if (status !== 200 || !body || !/^text\/event-stream\b/i.test(response.headers.get("Content-Type") ?? "")) {
        return { status, afterMs: 1000 * Number(response.headers.get("Retry-After")) };
      }
      const parse = createParser((event) => signal.aborted || onEvent(event), onRetry, cursor);
      for (const reader = body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done || signal.aborted) return { status };
        onBytes();
        parse(value);
      }
    }
  };
}

/**
 * Attempts with EventSource, until one is refused: it does not report the status, `fetch` does.
 *
 * @param {URL} url
 * @param {() => Iterable<string>} getTypes  EventSource delivers only events whose names are listened to
 * @param {OpenLink} openFetch
 * @returns {OpenLink}
 */
export function withEventSource(url, getTypes, openFetch) {
  let isRefused = false;
  return (cursor, onBytes, onEvent, onRetry, onEnd) => {
    if (isRefused) return openFetch(cursor, onBytes, onEvent, onRetry, onEnd);
    const target = new URL(url);
    if (cursor) target.searchParams.set("last_event_id", cursor);
    const source = new EventSource(target, { withCredentials: true });
    source.onerror = () => {
      isRefused = source.readyState === EventSource.CLOSED;
      source.close(); // EventSource would reconnect without jitter and without limit
      onEnd({ status: isRefused ? undefined : 0 });
    };
    // One function for all types: adding it twice for a type has no effect.
    const receive = (/** @type {any} */ { type, data, lastEventId: id }) => {
      if (data === undefined) return; // EventSource's own "open" or "error", not an event of the stream
      onBytes();
      onEvent({ event: type, data, id });
    };
    const listen = (/** @type {string} */ type) => source.addEventListener(type, receive);
    for (const type of getTypes()) listen(type);
    return { close: () => source.close(), listen };
  };
}
