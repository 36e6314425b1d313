/**
 * Topics: what a page shows. Each tab adds its grants to the user's stream, also where another tab has it, and says at which
 * cursor it was last complete; the service answers what is stale.
 *
 *     open -> join (at once, and after each hello) -> heard -> left (grant ended, stream lost) -> join ... -> close
 *
 * What a topic missed while no stream heard it is not replayed: it is stale.
 *
 * Owns: handles, joining, renewal, which tab ends a topic. Must not know: elements, how a stream is kept open.
 */

import { create, isOlder, oldest, readGrants, topicOf } from "./grants.js";
import { readData } from "./parse.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {(names: string[]) => void} NamesHandler */
/** @typedef {import("./grants.js").Grant} Grant */
/** @typedef {import("./grants.js").Topic} Topic */

/** @typedef {import("./types.js").TopicOptions} TopicOptions */
/** @typedef {import("./types.js").Renewed} Renewed */

/**
 * @typedef {object} Handle
 * @property {string[]} topics
 * @property {Set<NamesHandler>} stale
 * @property {Set<NamesHandler>} ended
 * @property {TopicOptions["renew"]} [renew]
 * @property {(() => void)[]} ends
 */

const ANSWER_MS = 300; // the other tabs say within this what they show
const RETRY_MS = 2000; // twice this at most, at random
const LEAD_MS = 60_000; // a grant is renewed so long before its end, or at four fifths of its life
const PATIENCE_MS = 15_000;
const MAX_GRANTS = 20; // in the query of a poll

/**
 * @param {any} notifier  for its `on` and its state
 * @param {import("./connection.js").Connection} connection
 * @param {import("./position.js").Position} position
 * @param {URL} base
 * @param {URL} pollUrl  its query gets the grants
 * @param {import("./request.js").Request} request
 * @param {(() => Promise<string>) | null} findKey  null: the tab shares with no other
 * @param {string} connectionId  of the present stream
 */
export async function createTopics(notifier, connection, position, base, pollUrl, request, findKey, connectionId) {
  /** @type {Map<string, Topic>} */
  const topics = new Map();
  /** @type {Set<string>} */
  const elsewhere = new Set(); // grants of other tabs, for the leader's polls
  /** @type {Set<string> | null} */
  let leaving = null; // topics of which the leader asks the other tabs
  let isJoining = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let renewing;
  const key = findKey && (await findKey().catch(() => ""));
  let channel = key ? new BroadcastChannel(`${key} topics`) : null;
  const post = (/** @type {object} */ message) => channel?.postMessage(message);
  if (channel) channel.onmessage = ({ data }) => receive(data);
  globalThis.addEventListener?.("pagehide", () => topics.size && post({ left: [...topics.keys()] }));

  notifier.on("*", (/** @type {WireEvent} */ { event, id, data }) => {
    if (event === "hello") return; // see below
    if (event === "reset") missed([...topics.keys()]);
    if (!id) return;
    const named = topicOf(readData(data));
    for (const [name, topic] of topics) {
      if (!topic.heard) continue;
      topic.since = id;
      if (named === undefined || named === name) topic.last = id;
    }
  });
  notifier.on("hello", (/** @type {any} */ hello) => {
    if (hello.reason === "shared") return; // made by this tab
    connectionId = hello.connection ?? "";
    for (const topic of topics.values()) topic.heard = false;
    void join();
  });
  notifier.on("topics", (/** @type {any} */ { left }) => {
    for (const name of left) {
      const topic = topics.get(name);
      if (topic) topic.heard = false;
    }
    void join().then(renew);
  });
  notifier.on("state", (/** @type {string} */ _, /** @type {any} */ { final }) => {
    if (!final) return;
    clearTimeout(renewing);
    topics.clear();
    channel?.close();
    channel = null;
  });
  if (!connectionId) post({ ask: true });
  return { open };

  /**
   * @param {string} token  a grant, or several with spaces between
   * @param {TopicOptions} [options]
   */
  function open(token, { since = position.cursor, renew, onStale, onEnded } = {}) {
    /** @type {Handle} */
    const handle = { topics: [], stale: new Set(), ended: new Set(), renew, ends: [] };
    if (onStale) handle.stale.add(onStale);
    if (onEnded) handle.ended.add(onEnded);
    const grants = readGrants(token);
    for (const grant of grants) {
      for (const name of grant.names) {
        const topic = topics.get(name) ?? create(since);
        if (topic.heard && topic.last && isOlder(since, topic.last)) onStale?.([name]);
        else if (topic.heard && isOlder(since, topic.from)) topic.heard = false;
        if (!topic.heard) topic.since = oldest(topic.since, since);
        topic.handles.add(handle);
        handle.topics.push(name);
        topics.set(name, topic);
      }
    }
    take(grants);
    void join();
    return publicHandle(handle);
  }

  /** @param {Handle} handle */
  function publicHandle(handle) {
    return {
      /** The names of its topics. */
      topics: handle.topics,
      /**
       * Calls `handler` for events of this type to these topics. An event belongs to the topic in `data.topic`, a message
       * to that in `data.to`; what names none is for every handle. Returns a function that ends this.
       *
       * @param {string} type
       * @param {(data: any, event: WireEvent) => void} handler
       */
      on(type, handler) {
        const end = notifier.on(type, (/** @type {any} */ data, /** @type {WireEvent} */ event) => {
          const name = topicOf(data);
          if (name === undefined || handle.topics.includes(name)) handler(data, event);
        });
        handle.ends.push(end);
        return end;
      },
      /** Calls `handler` with the names of topics that changed while this page did not hear them. @param {NamesHandler} handler */
      onStale(handler) {
        handle.stale.add(handler);
      },
      /** Calls `handler` with the names of topics that this page hears no longer. @param {NamesHandler} handler */
      onEnded(handler) {
        handle.ended.add(handler);
      },
      close: () => close(handle),
    };
  }

  /** @param {Handle} handle */
  function close(handle) {
    for (const end of handle.ends) end();
    const left = [];
    for (const name of handle.topics) {
      const topic = topics.get(name);
      topic?.handles.delete(handle);
      if (topic?.handles.size) continue;
      topics.delete(name);
      left.push(name);
    }
    if (!left.length) return;
    post({ left });
    if (connection.leads) leave(left);
    tellPolls();
  }

  /** What another tab says. @param {any} message */
  function receive({ ask, connection: id, left, kept, grants }) {
    if (ask && connection.leads) post({ connection: connectionId });
    if (ask) post({ grants: [...new Set([...topics.values()].map(({ token }) => token))] });
    if (id && id !== connectionId && !connection.leads) {
      connectionId = id;
      void join();
    }
    if (left && connection.leads) leave(left);
    else if (left) post({ kept: left.filter((/** @type {string} */ name) => topics.has(name)) });
    for (const name of kept ?? []) leaving?.delete(name);
    if (grants && connection.leads) {
      for (const grant of grants) elsewhere.add(grant);
      tellPolls();
    }
  }

  /** The leader ends topics that no tab shows. @param {string[]} names */
  function leave(names) {
    if (!leaving) setTimeout(end, channel ? ANSWER_MS : 0);
    leaving ??= new Set();
    for (const name of names) if (!topics.has(name)) leaving.add(name);
    post({ left: names });

    function end() {
      const gone = [...(leaving ?? [])].filter((name) => !topics.has(name));
      leaving = null;
      if (gone.length && connectionId) void change({ remove: gone });
    }
  }

  /** Adds what the present stream does not hear, one call at a time. */
  async function join() {
    tellPolls();
    if (isJoining) return;
    isJoining = true;
    try {
      while (await joinSome());
    } finally {
      isJoining = false;
    }
  }

  /** Returns whether there may be more to join. */
  async function joinSome() {
    const waiting = [...topics].filter(([, { heard, exp }]) => !heard && exp > Date.now());
    if (!waiting.length) return false;
    if (!connectionId) {
      if (notifier.connectionState.state !== "polling") return void post({ ask: true });
      for (const [, topic] of waiting) topic.heard = true;
      missed(waiting.map(([name]) => name)); // polls do not say what happened since the page was rendered
      return false;
    }
    const { since } = waiting[0][1];
    const group = waiting.filter(([, topic]) => topic.since === since);
    const add = [...new Set(group.map(([, { token }]) => token))].slice(0, MAX_GRANTS);
    const on = connectionId;
    const answer = await change({ add, since: since || "-" });
    if (!answer) return false;
    if (on !== connectionId) return true; // another stream meanwhile
    const joined = group.filter(([, { token }]) => add.includes(token));
    for (const [name, topic] of joined) {
      topic.heard = answer.topics.includes(name);
      if (topic.heard) topic.since = topic.from = answer.cursor;
      else topic.exp = 0; // its grant ended before it was added
    }
    if (joined.some(([, { heard }]) => !heard)) void renew();
    missed(answer.stale);
    return true;
  }

  /**
   * Changes what the stream hears. Returns null if that is to be tried later.
   *
   * @param {object} body
   */
  async function change(body) {
    const response = await request(new URL("v1/stream/topics", base), {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ connection: connectionId, ...body }),
      signal: AbortSignal.timeout(PATIENCE_MS),
    }).catch(() => null);
    if (response?.ok) return response.json();
    const status = response?.status ?? 0;
    if (status === 404) {
      connectionId = ""; // a hello follows, or the leader's answer
      post({ ask: true });
    } else if (status === 403 || status === 409 || status === 422) {
      console.warn(`notifier: the stream does not hear ${JSON.stringify(body).slice(0, 200)}: status ${status}`);
      return null;
    }
    setTimeout(join, RETRY_MS * (1 + Math.random()));
    return null;
  }

  /** @param {string[]} names */
  function missed(names) {
    tell(names, "stale");
  }

  /**
   * @param {string[]} names
   * @param {"stale" | "ended"} what
   */
  function tell(names, what) {
    const handles = new Set(names.flatMap((name) => [...(topics.get(name)?.handles ?? [])]));
    for (const handle of handles) {
      const own = names.filter((name) => handle.topics.includes(name));
      for (const handler of handle[what]) handler(own);
    }
  }

  /** @param {Grant[]} grants */
  function take(grants) {
    for (const { token, names, exp } of grants) {
      for (const name of names) {
        const topic = topics.get(name);
        if (topic && exp > topic.exp) Object.assign(topic, { token, exp });
      }
    }
    post({ grants: grants.map(({ token }) => token) });
    plan();
  }

  function plan() {
    clearTimeout(renewing);
    const next = Math.min(...[...topics.values()].map(({ exp }) => exp));
    if (next < Infinity) renewing = setTimeout(renew, Math.max(1000, Math.min(next - Date.now() - LEAD_MS, 2 ** 30)));
  }

  /** Renews the grants that end soon. What cannot be renewed ends, or is stale where the page decides. */
  async function renew() {
    const soon = [...topics].filter(([, { exp }]) => exp - Date.now() < 2 * LEAD_MS);
    const [asked] = soon.flatMap(([, { handles }]) => [...handles].filter((handle) => handle.renew));
    const old = [...new Set(soon.map(([, { token }]) => token))];
    /** @type {Renewed | null | undefined} */
    const answer = asked?.renew && (await asked.renew(old).catch(() => null));
    if (answer === null) {
      clearTimeout(renewing);
      renewing = setTimeout(renew, RETRY_MS * (1 + Math.random()));
      return;
    }
    const { grants = [], denied = [], unknown = [] } = answer ?? {};
    const renewed = grants.flatMap(readGrants);
    take(renewed);
    const names = soon.map(([name]) => name).filter((name) => !renewed.some((grant) => grant.names.includes(name)));
    const over = names.filter((name) => (topics.get(name)?.exp ?? 0) <= Date.now() || denied.includes(name));
    tell(
      names.filter((name) => unknown.includes(name)),
      "stale",
    );
    tell(
      over.filter((name) => !unknown.includes(name)),
      "ended",
    );
    for (const name of over) topics.delete(name);
    if (denied.length && connectionId) void change({ remove: denied });
    for (const { names } of renewed) {
      for (const name of names) {
        const topic = topics.get(name);
        if (topic) topic.heard = false; // until the stream has its new grant
      }
    }
    plan();
    await join();
  }

  function tellPolls() {
    pollUrl.searchParams.delete("grant");
    const own = [...topics.values()].filter(({ exp }) => exp > Date.now()).map(({ token }) => token);
    for (const token of [...new Set([...own, ...elsewhere])].slice(0, MAX_GRANTS))
      pollUrl.searchParams.append("grant", token);
  }
}
