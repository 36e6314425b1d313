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
/** @typedef {import("./transport.js").End} End */
/** @typedef {ReturnType<typeof createStatus>} Status */
/** @typedef {{close: () => void, listen: (type: string) => void, readonly state: State}} Connection */

/**
 * @typedef {object} Listener  Its functions must not throw.
 * @property {(event: WireEvent, data: any, key: any) => void} onEvent  `key`: see `keyOf`
 * @property {(state: State, detail: StateDetail) => void} onState
 */

/**
 * The state of a connection and the reason for it.
 *
 * @param {Listener["onState"]} onState  called for each change, and for the final state
 */
export function createStatus(onState) {
  const status = {
    /** @type {State} */
    state: "connecting",
    /** @type {StateDetail} */
    detail: { reason: "", final: false },
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
  };
  return status;
}

/**
 * Opens the stream and keeps it open until `close`.
 *
 * @param {import("./transport.js").OpenLink} openLink
 * @param {import("./token.js").Tokens | null} tokens
 * @param {import("./position.js").Position} position
 * @param {Listener} listener
 * @returns {Connection}
 */
export function openConnection(openLink, tokens, position, listener) {
  let refusals = 0; // 401 in a row
  const status = createStatus(listener.onState);
  const attempts = createAttempts(openLink, position, onEvent, onEnd);
  return {
    close: () => stop("closed"),
    listen: attempts.listen,
    get state() {
      return status.state;
    },
  };

  function onEvent(/** @type {WireEvent} */ event) {
    const data = readData(event.data);
    if (event.event === "hello") {
      refusals = 0;
      status.set("live", "hello");
    }
    if (event.event === "degraded") status.set(data?.degraded ? "degraded" : "live", "broker");
    position.accept(event, data, keyOf(event, data, position.cursor), listener.onEvent);
    if (event.event === "bye" && !status.detail.final) onBye(data);
  }

  function onBye(/** @type {any} */ bye) {
    const reason = String(bye?.reason);
    if (reason === "expired" || reason === "revoked") tokens?.refused();
    attempts.end({ status: 200, afterMs: bye?.retry_ms }, reason);
  }

  function onEnd(/** @type {End} */ end, /** @type {boolean} */ wasOpen, reason = reasonOf(end)) {
    const { status: code, afterMs = 0, signedOut } = end;
    if (code === 204) return stop("stopped");
    if (code === 403) return stop("refused");
    if (signedOut || (code === 401 && !tokens?.refused(""))) return stop("unauthorized");
    if (code === 401 && !refusals++) return attempts.start();
    status.set(wasOpen ? "connecting" : "offline", reason);
    attempts.retry(afterMs);
  }

  function stop(/** @type {string} */ reason) {
    if (status.detail.final) return;
    attempts.close();
    status.set("offline", reason, true);
  }
}

/** @param {End} end */
const reasonOf = ({ status }) => (!status ? "network" : status === 200 ? "ended" : `status ${status}`);
