/**
 * The browser client of the notifier service: the only file to import.
 *
 *     import { connect } from "/client/notifier.js";
 *     const notifier = connect("/", { getToken, onMessage: (message) => show(message.subject) });
 *     notifier.on("order.paid", (data) => ...);
 *
 * Owns: the public names and who listens to what. Must not know: bytes, retries, elections, widgets.
 */

import { createApi } from "./api.js";
import { createPlace, openConnection } from "./connection.js";
import { createRequest } from "./request.js";
import { canShare, openShared } from "./tabs.js";
import { createTokens, subjectOf } from "./token.js";

export { ServiceError } from "./api.js";

/** @typedef {import("./types.js").Options} Options */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {(data: any, event: any) => void} Handler */

const OWN_EVENTS = "hello message task inbox reset degraded ping bye".split(" ");

/**
 * Opens a stream that stays open, and answers its handle at once.
 *
 * @param {string | URL} url  where the service is; relative to the page
 * @param {Options} [options]
 */
export function connect(url, options = {}) {
  const {
    token,
    getToken,
    user,
    cursor = "",
    shared = !cursor,
    fetch = (...args) => globalThis.fetch(...args),
  } = options;
  const base = new URL(String(url).replace(/\/*$/, "/"), globalThis.location?.href);
  const tokens = token || getToken ? createTokens({ token, getToken }) : null;
  /** @type {Map<string, Set<Handler>>} */
  const handlers = new Map();
  for (const [name, handler] of Object.entries(options)) {
    if (/^on[A-Z]/.test(name) && handler)
      add(name === "onEvent" ? "*" : name.slice(2).toLowerCase(), /** @type {Handler} */ (handler));
  }
  const request = createRequest(tokens, fetch);
  const api = createApi(base, request, () => Boolean(getToken));
  const place = createPlace(cursor);
  const sharing = shared && (tokens || user) && canShare();
  /** @param {import("./connection.js").Listener} listener */
  const open = (listener) =>
    openConnection({
      url: new URL("v1/stream", base),
      tokens,
      request,
      place,
      listener,
      native: !sharing && !tokens && !options.fetch && "EventSource" in globalThis, // it hears only names it is told of
      types: new Set([...OWN_EVENTS, ...handlers.keys()]),
    });
  const listener = {
    onEvent(/** @type {WireEvent} */ event, /** @type {any} */ data) {
      tell("*", event, event);
      if (event.event !== "state") tell(event.event, data, event); // "state" is a name of ours
    },
    onState(/** @type {import("./types.js").State} */ state, /** @type {import("./types.js").StateDetail} */ detail) {
      if (detail.final) tokens?.close();
      tell("state", state, detail);
    },
  };
  const connection = sharing ? openShared({ findKey, place, open, greet, listener }) : open(listener);

  return {
    ...api,
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
    get state() {
      return connection.state;
    },
    /** The last event id that came: what a later `connect` can go on from. */
    get cursor() {
      return place.cursor;
    },
  };

  /** Two users of one browser, each in a tab, have nothing in common. */
  async function findKey() {
    const who = user ?? subjectOf(await tokens?.get());
    return who && `notifier ${base} ${who}`;
  }

  async function greet(/** @type {string} */ event) {
    const [{ unread, cursor: id }, tasks] = await Promise.all([api.inbox({ limit: 1 }), api.tasks()]);
    return { event, id, data: JSON.stringify({ v: 1, recovered: true, replayed: 0, reason: "shared", unread, tasks }) };
  }

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
        (globalThis.reportError ?? console.error)(error);
      }
    }
  }
}
