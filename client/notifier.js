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
import { openConnection } from "./connection.js";
import { withPoll } from "./poll.js";
import { createPosition } from "./position.js";
import { createRequest } from "./request.js";
import { canShare, openShared } from "./tabs.js";
import { createTokens, subjectOf } from "./token.js";
import { withEventSource, withFetch } from "./transport.js";

export { ServiceError } from "./api.js";

/** @typedef {import("./types.js").Options} Options */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {(data: any, event: any) => void} Handler */
/** @typedef {Map<string, Set<Handler>>} Handlers  by event type */

const OWN_EVENTS = ["hello", "message", "task", "inbox", "reset", "degraded", "ping", "bye"];
const RELOAD_MS = 5000; // where the module of topics did not load

/**
 * Opens a stream that stays open. Returns its handle at once.
 *
 * @param {string | URL} url  of the service; relative to the page
 * @param {Options} [options]
 */
export function connect(url, options = {}) {
  const { token, getToken, user, cursor = "", shared = !cursor, fetch = globalFetch } = options;
  const base = new URL(String(url).replace(/\/*$/, "/"), globalThis.location?.href);
  const tokens = token || getToken ? createTokens(token, getToken) : null;
  const handlers = handlersOf(options);
  const request = createRequest(tokens, fetch);
  const api = createApi(base, request, Boolean(getToken));
  const position = createPosition(cursor);
  const key = shared && (tokens || user) && canShare() && findKey().catch(() => ""); // once: it must not change
  const isNative = !key && !tokens && !options.fetch && globalThis.EventSource;
  const streamUrl = new URL("v1/stream", base);
  const openFetch = withFetch(streamUrl, request);
  const openLink = isNative
    ? withEventSource(streamUrl, () => [...OWN_EVENTS, ...handlers.keys()], openFetch)
    : openFetch;
  const polls = { url: new URL("v1/poll", base) };
  const openPoll = withPoll(polls, request);
  /** @param {import("./connection.js").Listener} listener */
  const open = (listener) => openConnection(openLink, openPoll, tokens, position, listener);
  const listener = listenerOf(handlers, tokens);
  let connectionId = "";
  add(handlers, "hello", ({ reason, connection: id = "" }) => {
    if (reason !== "shared") connectionId = id; // of polls: none
  });
  const connection = key ? openShared(key, position, open, greet, listener) : open(listener);
  /** @type {ReturnType<typeof import("./topics.js").createTopics> | undefined} */
  let topics;
  const loadTopics = () =>
    (topics ??= import("./topics.js")
      .then(({ createTopics }) =>
        createTopics(notifier, connection, position, base, polls, request, key, () => connectionId),
      )
      .catch((error) => {
        topics = undefined; // the next call loads it again
        throw error;
      }));
  // The tab that has the stream answers those that show topics, also if it shows none.
  connection.receive = async (message) => {
    if (!connection.leads) return;
    await loadTopics().catch(() => new Promise((resolve) => setTimeout(resolve, RELOAD_MS)));
    connection.receive?.(message);
  };

  const notifier = {
    ...api,
    /**
     * What a page shows: the topics of a grant, heard until the handle is closed. Loads the module for it.
     *
     * @param {string} grant
     * @param {import("./types.js").TopicOptions} [more]
     */
    async topic(grant, more) {
      return (await loadTopics()).open(grant, more);
    },
    /**
     * Calls `handler` for each event of a type: a type of the service, any name that was published, `state`,
     * `connectionState`, or `*` (every event as it was on the wire). Returns a function that ends this.
     *
     * @param {string} type
     * @param {Handler} handler  an error that it throws is reported; other handlers are called
     */
    on(type, handler) {
      add(handlers, type, handler);
      connection.listen(type);
      return () => void handlers.get(type)?.delete(handler);
    },
    /** Ends the connection for good. */
    close: () => connection.close(),
    /** Starts an attempt now, for a user who does not want to wait. */
    retry: () => connection.retry(),
    get state() {
      return connection.state;
    },
    /** Whether the user may cancel every task that it watches, as far as the token says. */
    get cancelsAll() {
      return Boolean(tokens?.cancelsAll());
    },
    /** What to show of the connection. */
    get connectionState() {
      return connection.connectionState;
    },
    /** The id of the last event: a later `connect` can go on from it. */
    get cursor() {
      return position.cursor;
    },
  };
  return notifier;

  /** Equal in all tabs of one user of one service; "" if the user is not known. */
  async function findKey() {
    const subject = user ?? subjectOf(await tokens?.get());
    return subject && `notifier ${base} ${subject}`;
  }

  /** A `hello` or `reset` as the service would send it now. */
  async function greet(/** @type {string} */ event) {
    const [{ unread, cursor: id }, tasks] = await Promise.all([api.inbox({ limit: 1 }), api.tasks()]);
    return { event, id, data: JSON.stringify({ v: 1, recovered: true, replayed: 0, reason: "shared", unread, tasks }) };
  }
}

/** @param {Parameters<typeof globalThis.fetch>} args */
const globalFetch = (...args) => globalThis.fetch(...args); // a page may replace `fetch` later

/**
 * The handlers among the options: `onMessage` for `message` and so on, `onEvent` for `*`.
 *
 * @param {Options} options
 */
function handlersOf(options) {
  /** @type {Handlers} */
  const handlers = new Map();
  for (const [name, handler] of Object.entries(options)) {
    if (!/^on[A-Z]/.test(name) || !handler) continue;
    const type = name[2].toLowerCase() + name.slice(3);
    add(handlers, type === "event" ? "*" : type, /** @type {Handler} */ (handler));
  }
  return handlers;
}

/**
 * @param {Handlers} handlers
 * @param {string} type
 * @param {Handler} handler
 */
function add(handlers, type, handler) {
  handlers.set(type, (handlers.get(type) ?? new Set()).add(handler));
}

/**
 * @param {Handlers} handlers
 * @param {import("./token.js").Tokens | null} tokens
 * @returns {import("./connection.js").Listener}
 */
function listenerOf(handlers, tokens) {
  return {
    onEvent(event, data) {
      call("*", event, event);
      if (event.event !== "state") call(event.event, data, event); // "state" is the connection's own type
    },
    onState(state, detail) {
      if (detail.final) tokens?.close();
      call("state", state, detail);
    },
    onConnectionState: (state) => call("connectionState", state), // no published name has a capital
  };

  /** @param {string} type @param {unknown} data @param {unknown} [detail] */
  function call(type, data, detail) {
    for (const handler of [...(handlers.get(type) ?? [])]) {
      try {
        handler(data, detail);
      } catch (error) {
        (globalThis.reportError ?? console.error)(error);
      }
    }
  }
}
