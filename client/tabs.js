/**
 * One stream for all tabs of a user: the tabs elect a leader, which opens the stream and posts its events to the others.
 *
 *     join -> follow (ask the leader for its state) -> lead (the lock was granted) -> leave
 *
 * A Web Lock elects the leader: the browser grants it to the next tab in the queue when a tab ends, in whatever way.
 * Every event is posted with its SSE id, so each tab has its own cursor, and with its key (`keyOf`): a tab drops an event
 * whose key it has seen. Events that a leader received but did not post are replayed to the next leader.
 *
 * Owns: the election and the messages between tabs. Must not know: how a stream is kept open, what events mean.
 */

import { createStatus, endOf } from "./connection.js";
import { createFollower } from "./follower.js";
import { onPage } from "./page.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").StateDetail} StateDetail */
/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./connection.js").OwnConnection} OwnConnection */
/** @typedef {import("./connection.js").Listener} Listener */
/** @typedef {import("./connection.js").Status} Status */
/** @typedef {import("./position.js").Position} Position */

/** Firefox has no channels for a page that may not store anything. */
export function canShare() {
  try {
    new BroadcastChannel("").close();
    return navigator.locks;
  } catch {
    return undefined;
  }
}

/**
 * Behaves as `openConnection` does.
 *
 * @param {Promise<string>} key  equal in all tabs of one user; "": share with no tab
 * @param {Position} position
 * @param {(listener: Listener) => OwnConnection} open
 * @param {(type: string) => Promise<WireEvent>} greet  makes a hello for a tab that joins while the stream is open, or a
 *   reset for a tab that was away
 * @param {Listener} listener
 * @returns {Connection}
 */
export function openShared(key, position, open, greet, listener) {
  let leave = () => {};
  let retry = leave;
  let leads = () => false;
  let unhook = leave;
  /** @type {BroadcastChannel | null} */
  let topics = null; // the channel of what tabs say about topics
  const status = createStatus(listener);
  /** @type {Connection} */
  const connection = {
    close: () => end("closed"),
    retry: () => retry(),
    get leads() {
      return leads();
    },
    listen() {}, // a shared stream is read with `fetch`, which delivers every event
    get state() {
      return status.state;
    },
    get connectionState() {
      return status.connection;
    },
  };
  void begin();
  return connection;

  async function begin() {
    const name = await key;
    if (status.detail.final) return;
    join();
    // A page in the back-forward cache may have neither a lock nor a channel.
    if (name) unhook = onPage({ pagehide: depart, pageshow: ({ persisted }) => persisted && join() });

    function join() {
      [leave, retry, leads] = joinTabs(name, position, status, listener, greet, open, end);
      if (!name) return;
      topics = new BroadcastChannel(`${name} topics`);
      connection.post = (message) => topics?.postMessage(message);
      topics.onmessage = ({ data }) => connection.receive?.(data);
    }
  }

  function depart() {
    connection.depart?.();
    leave();
    topics?.close();
    topics = null;
  }

  function end(/** @type {string} */ reason) {
    if (status.detail.final) return;
    status.set("offline", reason, true);
    status.show(endOf(reason));
    unhook();
    depart();
  }
}

/**
 * Takes part in the election until `leave` is called.
 *
 * @param {string} key
 * @param {Position} position
 * @param {Status} status
 * @param {Listener} listener
 * @param {(type: string) => Promise<WireEvent>} greet
 * @param {(listener: Listener) => OwnConnection} open
 * @param {(reason: string) => void} end
 * @returns {[leave: () => void, retry: () => void, leads: () => boolean]}
 */
function joinTabs(key, position, status, listener, greet, open, end) {
  /** @type {OwnConnection | null} */
  let stream = null; // this tab's own stream: it leads
  const channel = key ? new BroadcastChannel(key) : null;
  /** @type {number | undefined} */
  let heartbeat_s; // of the stream; undefined: this tab had none
  const post = (/** @type {import("./follower.js").TabMessage} */ message) =>
    channel?.postMessage({ ...message, heartbeat_s });
  const postState = () => post({ state: status.state, detail: status.detail, connection: status.connection });
  const [enlist, release] = createElection(key, lead, follow);
  const [receive, ask, stop] = createFollower(position, status, listener, greet, post, () => enlist(true));
  const want = (/** @type {"retry" | "hurry"} */ what) => (stream ? stream[what]() : post({ want: what }));
  const unhook = onPage({ visibilitychange: () => document.hidden || stream || ask() });
  if (channel) {
    channel.onmessage = ({ data }) => {
      if (data.event || data.state) stream || receive(data);
      else if (stream && data.want) want(data.want);
      else if (stream) {
        stream.wake(); // another tab asks: this tab may be hidden, and its timers late
        postState();
      }
    };
    enlist(false);
    ask();
  } else lead();
  return [leave, () => want("retry"), () => stream !== null];

  function leave() {
    unhook();
    stop();
    channel?.close();
    resign();
    release();
  }

  /** Another tab stole the lock. What it posted meanwhile is missing here. */
  function follow() {
    resign();
    handOver();
    ask();
  }

  function handOver() {
    status.set("connecting", "handover");
    if (status.connection.state !== "connecting") status.show({ state: "reconnecting", reason: "handover" });
  }

  function lead() {
    handOver();
    stop();
    stream = open({
      onEvent(event, data, id) {
        if (event.event === "hello") heartbeat_s = data?.heartbeat_s;
        post({ event, id });
        listener.onEvent(event, data, id);
      },
      onState(state, { reason, final }) {
        if (!stream) return; // resigned
        if (final) return end(reason); // other tabs go on: their tokens may be accepted
        status.set(state, reason);
        postState();
      },
      onConnectionState(connection) {
        if (!stream) return; // resigned, or ended: see onState
        status.show(connection);
        postState();
      },
    });
    postState();
  }

  function resign() {
    const old = stream;
    stream = null;
    old?.close();
  }
}

/**
 * A tab's part in the election. Returns functions that queue for the lock, and that release it or leave the queue.
 *
 * @param {string} key
 * @param {() => void} lead    this tab is the leader
 * @param {() => void} follow  another tab stole the lock: this one did not answer
 * @returns {[enlist: (steal: boolean) => void, release: () => void]}
 */
function createElection(key, lead, follow) {
  let release = () => {};
  return [enlist, () => release()];

  function enlist(/** @type {boolean} */ steal) {
    release();
    const queue = new AbortController();
    const { signal } = queue;
    const term = new Promise((resolve) => {
      release = () => {
        queue.abort();
        resolve(null);
      };
    });
    const granted = () => {
      if (!signal.aborted) lead();
      return term;
    };
    navigator.locks.request(key, steal ? { steal } : { signal }, granted).catch(({ name }) => {
      if (signal.aborted) return;
      if (name !== "AbortError") return lead(); // this page may not use locks
      enlist(false);
      follow();
    });
  }
}
