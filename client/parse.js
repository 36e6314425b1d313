/**
 * Server-sent events out of bytes, for streams read with `fetch` (WHATWG HTML, "Parsing an event stream").
 *
 * Owns: decoding, lines, fields. Must not know: HTTP, reconnecting, what events mean.
 */

/** @typedef {import("./types.js").WireEvent} WireEvent */

/**
 * A parser for one response. `push` takes bytes cut anywhere; an event that the end of the stream cuts off is dropped.
 *
 * @param {object} options
 * @param {(event: WireEvent) => void} options.onEvent  must not throw
 * @param {(ms: number) => void} [options.onRetry]
 * @param {string} [options.lastEventId]  the id that a stream goes on from
 */
export function createParser({ onEvent, onRetry, lastEventId = "" }) {
  const decoder = new TextDecoder(); // drops a leading BOM and waits for the rest of a character that was cut
  let rest = "";
  let afterCr = false;
  let type = "";
  let data = "";
  let id = lastEventId;

  return { push };

  /** @param {Uint8Array} bytes */
  function push(bytes) {
    let text = decoder.decode(bytes, { stream: true });
    if (!text) return;
    // A CR ends its line at once, so that an event never waits for the next bytes; its LF may come with those.
    if (afterCr && text.startsWith("\n")) text = text.slice(1);
    afterCr = text.endsWith("\r");
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = /** @type {string} */ (lines.pop());
    for (const line of lines) line ? field(line) : dispatch();
  }

  /** @param {string} line */
  function field(line) {
    const [, name, value] = /** @type {RegExpExecArray} */ (/^([^:]*):? ?(.*)$/s.exec(line));
    if (name === "data") data += `${value}\n`;
    else if (name === "event") type = value;
    else if (name === "id" && !value.includes("\0")) id = value;
    else if (name === "retry" && /^\d+$/.test(value)) onRetry?.(Number(value));
  }

  function dispatch() {
    if (data) onEvent({ event: type || "message", data: data.slice(0, -1), id });
    type = data = "";
  }
}
