/**
 * A page's position in the stream: the last event id, and the keys by which repeated events are recognised.
 *
 * The service sends no event twice on purpose. A proxy that repeats a request may, and so may a replay after a cut.
 *
 * Owns: the cursor and the keys; both outlive connections. Must not know: connections, tabs.
 */

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {ReturnType<typeof createPosition>} Position */

const MAX_KEYS = 500; // an event repeated after more than this many others counts as new

/** @param {string} cursor */
export function createPosition(cursor) {
  /** @type {Set<string>} */
  const keys = new Set();
  const position = {
    cursor,
    /**
     * Passes an event on, unless it is a repeat, and moves the cursor to it.
     *
     * @param {WireEvent} event
     * @param {any} data
     * @param {any} key  of this event, from `keyOf`
     * @param {(event: WireEvent, data: any, key: any) => void} onEvent  must not throw
     */
    accept(event, data, key, onEvent) {
      if (keys.has(key)) return;
      if (key) keys.add(key);
      const [oldest] = keys;
      if (keys.size > MAX_KEYS) keys.delete(oldest);
      if (event.event === "reset") keys.clear();
      onEvent(event, data, key);
      if (event.id) position.cursor = event.id;
    },
  };
  return position;
}

/**
 * What an event and its repeats have in common; empty for events that are not repeated.
 *
 * @param {WireEvent} event
 * @param {any} data
 * @param {string} cursor
 */
export function keyOf({ event, id }, data, cursor) {
  // The id of an event without an id line is that of the event before it: it is no key.
  // A correction has the id of the message that it changes, and may be applied again.
  return event === "message"
    ? !data?.edited && data?.id
    : id !== cursor && event !== "hello" && event !== "reset" && id;
}
