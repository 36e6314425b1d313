/**
 * The handle of a page's topics: its events, its people, its end.
 *
 * Must not know: how topics are heard.
 */

import { topicOf } from "./grants.js";
import { watchPeople } from "./people.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").Ended} Ended */
/** @typedef {(names: string[], isDue?: boolean | "reset") => void} StaleHandler  `isDue`: the view is to give the next grant, or the stream was reset */

/**
 * @typedef {object} Handle
 * @property {string[]} topics
 * @property {string} user   whose grants it has
 * @property {string} state  what the user does there; "": nothing special
 * @property {Set<StaleHandler>} stale
 * @property {Set<(names: string[], reason: Ended) => void>} ended
 * @property {import("./types.js").TopicOptions["renew"]} [renew]
 * @property {Set<() => void>} ends  what ends with it, until it ends before
 */

/** @typedef {ReturnType<typeof publicHandle>} TopicHandle */

/**
 * @typedef {object} Topics
 * @property {(handle: Handle) => void} close
 * @property {(names: string[]) => void} tellStates
 * @property {(name: string) => Promise<import("./people.js").People | null | undefined>} find
 */

/**
 * Returns a function that tells the handles of topics what has happened to these.
 *
 * @param {Map<string, import("./grants.js").Topic>} topics
 */
export function createTell(topics) {
  /**
   * @param {string[]} names
   * @param {Ended} [reason]  they have ended; without it, they are stale
   * @param {boolean | "reset"} [isDue]  the view is to give their next grant, or the stream was reset
   */
  return (names, reason, isDue) => {
    const handles = new Set(names.flatMap((name) => [...(topics.get(name)?.handles ?? [])]));
    for (const handle of handles) {
      const own = names.filter((name) => handle.topics.includes(name));
      /** @type {any} */
      const detail = reason ?? isDue;
      for (const handler of reason ? handle.ended : handle.stale) detail ? handler(own, detail) : handler(own);
    }
  };
}

/**
 * @param {Handle} handle
 * @param {any} notifier
 * @param {Topics} topics
 */
export function publicHandle(handle, notifier, { close, tellStates, find }) {
  return {
    /** The names of its topics. */
    topics: handle.topics,
    /** The id of the user that its grant is for. */
    user: handle.user,
    /** What to show of the connection. @returns {import("./types.js").ConnectionState} */
    get connectionState() {
      return notifier.connectionState;
    },
    /**
     * Calls `handler` for events of this type to these topics. An event belongs to the topic in `data.topic`, a message
     * to that in `data.to`; what names none is for every handle. Returns a function that ends this.
     *
     * @param {string} type
     * @param {(data: any, event: WireEvent) => void} handler
     */
    on(type, handler) {
      return endWith(
        notifier.on(type, (/** @type {any} */ data, /** @type {WireEvent} */ event) => {
          const name = topicOf(data);
          if (name === undefined || handle.topics.includes(name)) handler(data, event);
        }),
      );
    },
    /** Calls `handler` with the names of topics that changed while this page did not hear them. @param {StaleHandler} handler */
    onStale(handler) {
      handle.stale.add(handler);
    },
    /** Calls `handler` with the names of topics that this page hears no longer, and why. @param {(names: string[], reason: Ended) => void} handler */
    onEnded(handler) {
      handle.ended.add(handler);
    },
    /**
     * Calls `handler` with the people of each topic, now and at every change. Returns a function that ends this.
     *
     * @param {(people: import("./people.js").Present) => void} handler
     */
    presence(handler) {
      const ended = new AbortController();
      const watched = handle.topics.map((name) => watchPeople(notifier, name, find, handler, ended.signal));
      const reread = (/** @type {string[]} */ names) =>
        watched.forEach((again, n) => {
          if (names.includes(handle.topics[n])) again();
        });
      handle.stale.add(reread);
      return endWith(() => {
        ended.abort();
        handle.stale.delete(reread);
      });
    },
    /**
     * Says what the user does on these topics, to the others there; "" for nothing special. It takes a grant with `presence`.
     *
     * @param {string} state  1 to 32 of `a-z 0-9 _ -`
     */
    state(state) {
      handle.state = state === "viewing" ? "" : state;
      tellStates(handle.topics);
    },
    close: () => close(handle),
  };

  /** What ends with the handle: it is not kept once it has ended before. @param {() => void} end @returns {() => void} */
  function endWith(end) {
    handle.ends.add(end);
    return () => handle.ends.delete(end) && end();
  }
}
