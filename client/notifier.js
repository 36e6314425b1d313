/**
 * The browser client of the notifier service: the only file to import.
 *
 *     import { connect } from "/client/notifier.js";
 *     const notifier = connect("/", { getToken, onMessage: (message) => show(message.subject) });
 *     notifier.on("order.paid", (data) => ...);
 *
 * Owns: the public names and who listens to what. Must not know: bytes, retries, widgets.
 */

import { createApi } from "./api.js";
import { openConnection } from "./connection.js";
import { createTokens } from "./token.js";

export { ServiceError } from "./api.js";

/** @typedef {import("./types.js").Options} Options */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {(data: any, event: any) => void} Handler */

const OWN_EVENTS = ["hello", "message", "task", "inbox", "reset", "degraded", "ping", "bye"];

/**
 * Opens a stream that stays open, and answers its handle at once.
 *
 * @param {string | URL} url  where the service is; relative to the page
 * @param {Options} [options]
 */
export function connect(url, options = {}) {
  const { token, getToken, cursor = "", fetch = (...args) => globalThis.fetch(...args) } = options;
  const base = new URL(String(url).replace(/\/*$/, "/"), globalThis.location?.href);
  const tokens = token || getToken ? createTokens({ token, getToken }) : null;
  /** @type {Map<string, Set<Handler>>} */
  const handlers = new Map();
  for (const name of ["message", "task", "hello", "reset", "inbox", "state", "event"]) {
    const handler = /** @type {any} */ (options)[`on${name[0].toUpperCase()}${name.slice(1)}`];
    if (handler) add(name === "event" ? "*" : name, handler);
  }
  const connection = openConnection({
    url: new URL("v1/stream", base),
    tokens, fetch, cursor,
    native: !tokens && !options.fetch && "EventSource" in globalThis,
    types: new Set(OWN_EVENTS),
    onEvent(event, data) {
      tell("*", event, event);
      if (event.event !== "state") tell(event.event, data, event); // "state" is a name of ours
    },
    onState: (state, detail) => tell("state", state, detail),
  });

  return {
    ...createApi(base, tokens, fetch),
    /**
     * Listens to one type of event: the service's own, `state`, `*` (every event as it stood on the wire), or any name
     * that was published. Answers a function that ends it.
     *
     * @param {string} type
     * @param {Handler} handler  an error it throws is reported and harms nothing
     */
    on(type, handler) {
      add(type, handler);
      connection.listen(type);
      return () => void handlers.get(type)?.delete(handler);
    },
    /** Ends it for good. */
    close: () => connection.close(),
    get state() { return connection.state; },
    /** The last event id that came: what a later `connect` can go on from. */
    get cursor() { return connection.cursor; },
  };

  /**
   * @param {string} type
   * @param {Handler} handler
   */
  function add(type, handler) {
    handlers.set(type, (handlers.get(type) ?? new Set()).add(handler));
  }

  /**
   * @param {string} type
   * @param {unknown} data
   * @param {unknown} detail
   */
  function tell(type, data, detail) {
    for (const handler of [...(handlers.get(type) ?? [])]) {
      try {
        handler(data, detail);
      } catch (error) {
        "reportError" in globalThis ? reportError(error) : console.error(error);
      }
    }
  }
}
