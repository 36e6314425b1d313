/**
 * One stream that stays open: its state, and how its events and HTTP responses change that state.
 *
 *     start -> (hello) -> live -> ended -> wait -> start ...
 *
 * It stops at a 204, at a 401 without a new token, at a 403, and at close().
 *
 * Owns: when to retry and when to stop. Must not know: timers, the handlers that a page registers, other tabs.
 */

import { createAttempts } from "./attempts.js";
import { readData } from "./parse.js";
import { keyOf } from "./position.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").StateDetail} StateDetail */
/** @typedef {import("./types.js").ConnectionState} ConnectionState */
/** @typedef {import("./transport.js").End} End */
/** @typedef {import("./transport.js").OpenLink} OpenLink */
/** @typedef {ReturnType<typeof createStatus>} Status */

/**
 * @typedef {object} Connection
 * @property {() => void} close
 * @property {(type: string) => void} listen
 * @property {() => void} retry  starts an attempt now: a user asks for it
 * @property {boolean} leads  the stream is this tab's own
 * @property {State} state
 * @property {ConnectionState} connectionState
 * @property {(message: object) => void} [post]  to the other tabs, about topics; absent: the tab shares with no other
 * @property {(message: any) => void} [receive]  from them; set by the module that reads it
 * @property {() => void} [depart]  the last moment to post, for the module of topics
 */

/**
 * @typedef {Connection & {wake: () => void, hurry: () => void}} OwnConnection  A connection of this tab. `wake`: another
 *   tab asks for its state; `hurry`: a user looks at that tab
 */

/**
 * @typedef {object} Listener  Its functions must not throw.
 * @property {(event: WireEvent, data: any, key: any) => void} onEvent  `key`: see `keyOf`
 * @property {(state: State, detail: StateDetail) => void} onState
 * @property {(state: ConnectionState) => void} onConnectionState
 */

/**
 * The state of a connection and the reason for it.
 *
 * @param {Omit<Listener, "onEvent">} listener  `onState`: called for each change, and for the final state
 */
export function createStatus({ onState, onConnectionState }) {
  const status = {
    /** @type {State} */
    state: "connecting",
    /** @type {StateDetail} */
    detail: { reason: "", final: false },
    /** @type {ConnectionState} */
    connection: { state: "connecting", reason: "", since: Date.now(), nextTryAt: 0 },
    /**
     * @param {State} state
     * @param {string} reason
     * @param {boolean} [final]
     */
    set(state, reason, final = false) {
      if (state === status.state && !final) return;
      status.state = state;
      status.detail = { reason, final };
      onState(state, status.detail);
    },
    /**
     * Shows another state, or another time of the next attempt.
     *
     * @param {Partial<ConnectionState>} next  `since` follows from the states, unless it is given
     */
    show(next) {
      const { since, ...old } = status.connection;
      const shown = { ...old, nextTryAt: 0, ...next };
      if (Object.entries(old).every(([name, value]) => value === /** @type {any} */ (shown)[name])) return;
      const isKept = isOpen(old) === isOpen(shown);
      status.connection = { since: isKept ? since : Date.now(), ...shown };
      onConnectionState(status.connection);
    },
  };
  return status;
}

/** @param {Pick<ConnectionState, "state">} state */
const isOpen = ({ state }) => state === "open";

/**
 * Opens the stream and keeps it open until `close`.
 *
 * @param {OpenLink} openStream
 * @param {OpenLink} openPoll
 * @param {import("./token.js").Tokens | null} tokens
 * @param {import("./position.js").Position} position
 * @param {Listener} listener
 * @returns {OwnConnection}
 */
export function openConnection(openStream, openPoll, tokens, position, listener) {
  let refusals = 0; // 401 in a row
  const status = createStatus(listener);
  const attempts = createAttempts(openStream, openPoll, position, {
    onEvent,
    onEnd,
    onStart: (isProbe) => status.show(!isProbe && isOpen(status.connection) ? { state: "reconnecting" } : {}),
    onHurry: (nextTryAt) => status.show({ nextTryAt }),
  });
  return {
    close: () => stop("closed"),
    retry: () => status.detail.final || attempts.restart(),
    wake: attempts.wake,
    hurry: attempts.hurry,
    listen: attempts.listen,
    leads: true,
    get state() {
      return status.state;
    },
    get connectionState() {
      return status.connection;
    },
  };

  function onEvent(/** @type {WireEvent} */ event, /** @type {boolean} */ isPoll) {
    const data = readData(event.data);
    const isHello = event.event === "hello";
    if (isHello) refusals = 0;
    if (isHello || event.event === "degraded") {
      const isDegraded = !isHello && data?.degraded;
      const reason = isHello ? "hello" : "broker";
      status.set(isDegraded ? "degraded" : "live", reason);
      status.show({ state: isDegraded ? "reconnecting" : isPoll ? "polling" : "open", reason });
    }
    position.accept(event, data, keyOf(event, data, position.cursor), listener.onEvent);
    if (event.event === "bye" && !status.detail.final) onBye(data);
  }

  function onBye(/** @type {any} */ bye) {
    const reason = String(bye?.reason);
    if (reason === "expired" || reason === "revoked") tokens?.refuseToken();
    attempts.end({ status: 200, afterMs: bye?.retry_ms }, reason);
  }

  function onEnd(/** @type {End} */ end, /** @type {boolean} */ wasOpen, reason = reasonOf(end)) {
    const { status: code, afterMs = 0, isSignedOut } = end;
    if (code === 204) return stop("stopped");
    if (code === 403) return stop("refused");
    if (isSignedOut || (code === 401 && !tokens?.refuseToken(""))) return stop("unauthorized");
    if (code === 401 && !refusals++) return attempts.start();
    status.set(wasOpen ? "connecting" : "offline", reason);
    const state = globalThis.navigator?.onLine === false ? "offline" : "reconnecting";
    status.show({ state, reason, nextTryAt: attempts.retry(afterMs) });
  }

  function stop(/** @type {string} */ reason) {
    if (status.detail.final) return;
    attempts.close();
    status.set("offline", reason, true);
    status.show(endOf(reason));
  }
}

/** @param {End} end */
const reasonOf = ({ status }) => (!status ? "network" : status === 200 ? "ended" : `status ${status}`);

/**
 * The state of a connection that has ended for good.
 *
 * @param {string} reason
 * @returns {Partial<ConnectionState>}
 */
export const endOf = (reason) => ({ state: reason === "closed" ? "offline" : "refused", reason });
