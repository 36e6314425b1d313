/**
 * One stream per browser: the tabs of one user elect a leader, and it tells the others what comes.
 *
 *     join -> (asks) -> follows ... (the lock is granted) -> leads ... -> leaves
 *
 * A Web Lock makes the leader: the browser gives it to the next tab when a tab ends, however it ends. Every event goes
 * to all tabs with its id, so each of them knows the place from which it would go on. Nothing is lost with a leader:
 * what it had not told yet comes to its successor as a replay. Nothing is shown twice: each tab knows what it had.
 *
 * Owns: the election, the channel between tabs. Must not know: how a stream is kept open, what events mean.
 */

import { hook, read } from "./connection.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").StateDetail} StateDetail */
/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./connection.js").Listener} Listener */

const ANSWER_MS = 2000; // a leader that says nothing for so long is taken for hung; twice that at most
const ASK_MS = 20_000;

export const canShare = () => Boolean(globalThis.navigator?.locks && globalThis.BroadcastChannel);

/**
 * Behaves as `openConnection` does.
 *
 * @param {object} options
 * @param {() => Promise<string>} options.findKey  what the tabs of one user have in common; "": share with nobody
 * @param {import("./connection.js").Place} options.place
 * @param {(listener: Listener) => Connection} options.open
 * @param {(event: string) => Promise<WireEvent>} options.greet  a hello for a tab that comes while the stream
 *   is open, or a reset for one that was away
 * @param {Listener} options.listener
 * @returns {Connection}
 */
export function openShared({ findKey, place, open, greet, listener }) {
  /** @type {State} */
  let state = "connecting";
  /** @type {StateDetail} */
  let detail = { reason: "", final: false };
  let key = "";
  let greeted = false;
  /** @type {Connection | null} */
  let lead = null; // the connection, while this tab has it
  /** @type {BroadcastChannel | null} */
  let channel = null; // null: this tab shares with nobody (now)
  let quit = () => {}; // gives back the lock, or the place in the queue for it
  /** @type {[WireEvent, any][] | null} */
  let held = null; // what comes while the hello is fetched
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer; // to the next question, or to the end of patience with the leader

  const hooks = new AbortController();
  const { signal } = hooks;
  findKey()
    .catch(() => "")
    .then((found) => {
      key = found;
      if (signal.aborted) return;
      if (!key) return leading();
      join();
      // A page in the back-forward cache may have neither a lock nor a channel.
      hook(signal, {
        pagehide: leave,
        pageshow: ({ persisted }) => persisted && join(),
        visibilitychange: () => document.hidden || ask(),
      });
    });
  return {
    close() {
      if (detail.final) return;
      hooks.abort();
      leave();
      become("offline", { reason: "closed", final: true });
    },
    listen: (type) => lead?.listen(type),
    get state() {
      return state;
    },
  };

  function join() {
    channel = new BroadcastChannel(key);
    channel.onmessage = (/** @type {MessageEvent} */ { data }) => heard(data);
    enlist(false);
    ask();
  }

  function leave() {
    clearTimeout(timer);
    channel?.close();
    channel = held = null;
    greeted = false; // what comes from now on is missed
    resign();
  }

  /** @param {boolean} steal  take the lock from a tab that holds it and does not answer */
  function enlist(steal) {
    quit();
    const queue = new AbortController();
    const term = new Promise((resolve) => {
      quit = () => {
        queue.abort();
        resolve(null);
      };
    });
    const options = steal ? { steal } : { signal: queue.signal };
    const granted = () => {
      if (!queue.signal.aborted) leading();
      return term;
    };
    navigator.locks.request(key, options, granted).catch(({ name }) => {
      if (queue.signal.aborted) return;
      if (name !== "AbortError") return leading(); // no locks for this page
      resign(); // robbed
      enlist(false);
    });
  }

  function leading() {
    clearTimeout(timer);
    become("connecting", { reason: "handover", final: false });
    flush();
    lead = open({
      onEvent(event, data, id) {
        if (event.event === "hello") greeted = true;
        channel?.postMessage({ event, id });
        listener.onEvent(event, data, id);
      },
      onState(next, why) {
        if (!lead) return; // resigned
        // Each tab is refused for itself: another may have what this one lacks.
        if (why.final) {
          hooks.abort();
          leave();
        }
        become(next, why);
      },
    });
    tellState();
  }

  function resign() {
    const mine = lead;
    lead = null;
    mine?.close();
    quit();
  }

  function tellState() {
    channel?.postMessage({ state, detail });
  }

  function ask() {
    if (lead || !channel) return;
    channel.postMessage({});
    clearTimeout(timer);
    timer = setTimeout(() => enlist(true), ANSWER_MS * (1 + Math.random()));
  }

  /** @param {{event?: WireEvent, id?: any, state?: State, detail?: StateDetail}} said */
  function heard({ event, id, state: next, detail: why }) {
    if (lead) return void (event || next || tellState());
    if (!event && !next) return; // a question of another tab
    clearTimeout(timer);
    timer = setTimeout(ask, ASK_MS);
    if (event) held && event.event !== "hello" ? held.push([event, id]) : take(event, id);
    else if (greeted || next !== "live") become(/** @type {State} */ (next), /** @type {StateDetail} */ (why));
    else if (!held) void beGreeted();
  }

  /** The stream is open already: this tab makes a hello of its own. What comes meanwhile comes after it. */
  async function beGreeted() {
    /** @type {[WireEvent, any][]} */
    const mine = [];
    held = mine;
    const hello = await greet(place.cursor ? "reset" : "hello").catch(() => null);
    if (held !== mine) return; // the stream's own hello came first, this tab leads now, or it left
    if (hello) take(hello, null);
    else {
      flush();
      clearTimeout(timer);
      timer = setTimeout(ask, ANSWER_MS);
    }
  }

  /**
   * @param {WireEvent} event
   * @param {any} id  by what a repeat is known; null: our own greeting
   */
  function take(event, id) {
    if (place.had(id)) return;
    const isGreeting = event.event === "hello" || id === null;
    if (isGreeting) {
      greeted = true;
      become("live", { reason: "hello", final: false });
    }
    if (event.event === "reset") place.forget();
    listener.onEvent(event, read(event.data), id);
    if (event.id) place.cursor = event.id;
    if (isGreeting) flush();
  }

  function flush() {
    const late = held ?? [];
    held = null;
    for (const [event, id] of late) take(event, id);
  }

  /**
   * @param {State} next
   * @param {StateDetail} why
   */
  function become(next, why) {
    if (next === state && !why.final) return;
    state = next;
    detail = why;
    if (lead) tellState();
    listener.onState(next, why);
  }
}
