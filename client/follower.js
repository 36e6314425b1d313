/**
 * A tab that follows another tab's stream: it receives events and states, and asks for a sign of life.
 *
 * Owns: the state of events that arrive while a snapshot is fetched, the patience with a leader. Must not know: locks.
 */

import { readData } from "./parse.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */

/**
 * @typedef {object} TabMessage  What tabs post to each other: an event with its key; the leader's state with its detail;
 *   what a follower wants of the leader; or `{}`, by which it asks for the leader's state.
 * @property {WireEvent} [event]
 * @property {any} [id]  the key of `event` (see `keyOf`), not its SSE id
 * @property {import("./types.js").State} [state]
 * @property {import("./types.js").StateDetail} [detail]
 * @property {import("./types.js").ConnectionState} [connection]  beside `state`; not from a tab of an older version
 * @property {"retry" | "hurry"} [want]  see Connection and OwnConnection
 * @property {number} [heartbeat_s]  of the leader's stream; not from a tab of an older version
 */

// A leader that is live is asked after 1.5 heartbeats of silence, so that a follower replaces a frozen one about when the watchdog would end a silent stream.
const ANSWER_MS = 2000; // the leader must answer within this to twice this, or the lock is stolen
const ASK_MS = 20_000; // after this long without a message the leader is asked again, whatever its heartbeats are
const SEEN_MS = 6000; // a hidden leader waits longer than a tab that is looked at wants to

/**
 * @param {import("./position.js").Position} position
 * @param {import("./connection.js").Status} status
 * @param {import("./connection.js").Listener} listener
 * @param {(type: string) => Promise<WireEvent>} greet
 * @param {(message: TabMessage) => void} post
 * @param {() => void} replaceLeader
 * @returns {[receive: (message: any) => void, ask: () => void, stop: () => void]}
 */
export function createFollower(position, status, listener, greet, post, replaceLeader) {
  let hasHello = false;
  /** @type {[WireEvent, any][] | null} */
  let pending = null; // events that arrive while a snapshot is fetched; null: none is fetched
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer; // until the next question, or until the leader is replaced
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let retry; // until the leader is asked again, whose answer leads to another snapshot
  /** @type {Partial<import("./types.js").ConnectionState>} */
  let leaders = {}; // the leader's connection
  return [receive, ask, stop];

  function ask() {
    post({});
    wait(replaceLeader, ANSWER_MS * (1 + Math.random()));
  }

  function wait(/** @type {() => void} */ action, /** @type {number} */ ms) {
    clearTimeout(timer);
    timer = setTimeout(action, ms);
  }

  function receive(/** @type {any} */ { event, id, state, detail, connection, heartbeat_s }) {
    // Short only while the leader's stream is open: a question ends its wait to reconnect.
    wait(ask, Math.min(ASK_MS, ((event || state === "live") && 1500 * heartbeat_s) || ASK_MS));
    // Before its hello the tab may have missed some: its cursor must not pass them.
    if (event) return hasHello || event.event === "hello" ? accept(event, id) : void pending?.push([event, id]);
    leaders = connection ?? { state: state === "live" ? "open" : "reconnecting" };
    if (!globalThis.document?.hidden && connection?.nextTryAt > Date.now() + SEEN_MS) post({ want: "hurry" });
    if (hasHello || state !== "live") {
      status.set(state, detail.reason);
      status.show(leaders);
    } else if (!pending) void fetchSnapshot();
  }

  /** The stream was opened before this tab joined: makes a hello, and delivers what arrives meanwhile after it. */
  async function fetchSnapshot() {
    /** @type {[WireEvent, any][]} */
    const events = [];
    pending = events;
    const snapshot = await greet(position.cursor ? "reset" : "hello").catch(() => null);
    if (pending !== events) return; // a hello of the stream came first, or this tab leads or left
    if (snapshot) return accept(snapshot, null);
    pending = null;
    retry = setTimeout(ask, ANSWER_MS);
  }

  /** `key` null: the event is this tab's own snapshot. */
  function accept(/** @type {WireEvent} */ event, /** @type {any} */ key) {
    if (status.detail.final) return;
    const isSnapshot = event.event === "hello" || key === null;
    const wasAway = !hasHello && key !== null && position.cursor;
    const data = readData(event.data);
    if (isSnapshot) {
      hasHello = true;
      status.set("live", "hello");
      status.show(leaders); // its state came before its hello
    }
    position.accept(event, data, key, listener.onEvent);
    if (wasAway) accept({ ...event, event: "reset", data: JSON.stringify({ ...data, reason: "shared" }) }, null);
    if (isSnapshot) {
      const events = pending ?? [];
      pending = null;
      for (const each of events) accept(...each);
    }
  }

  function stop() {
    clearTimeout(timer);
    clearTimeout(retry);
    hasHello = false; // for the time after this tab has led
    pending = null;
  }
}
