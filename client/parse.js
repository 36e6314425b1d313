/**
 * Server-sent events out of bytes, for streams read with `fetch` (WHATWG HTML, "Parsing an event stream").
 *
 * Owns: decoding, lines, fields. Must not know: HTTP, reconnecting, what events mean.
 */

/** @typedef {import("./types.js").WireEvent} WireEvent */

/**
 * Parses one response. Returns a function that takes its bytes, in chunks of any size. An event without a blank line
 * after it is dropped.
 *
 * @param {(event: WireEvent) => void} onEvent  must not throw
 * @param {(ms: number) => void} [onRetry]
 * @param {string} [lastEventId]  of the events before the first `id` line
 */
export function createParser(onEvent, onRetry, lastEventId = "") {
  const decoder = new TextDecoder(); // drops a leading BOM and waits for the rest of a character that was cut
  let rest = "";
  let afterCr = false;
  let type = "";
  let data = "";
  let id = lastEventId;

  return push;

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

/** @param {string} data  of an event: JSON, or any other text */
export function readData(data) {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}
