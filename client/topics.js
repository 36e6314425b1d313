/**
 * Topics: what a page shows. Each tab adds its grants to the user's stream, also where another tab has it, and says at which
 * cursor it was last complete; the service answers what is stale.
 *
 *     open -> join (at once, and after each hello) -> heard -> left (grant ended, stream lost) -> join ... -> close
 *
 * What a topic missed while no stream heard it is not replayed: it is stale.
 *
 * The stream has one state of its user for each topic: where tabs differ, one that does something counts.
 *
 * Must not know: elements, how a stream is kept open, what tabs say to each other (`topic_tabs`).
 */

import { create, isOlder, oldest, onWire, readGrants, stateOf, topicOf, UNKNOWN, update } from "./grants.js";
import { createTell, publicHandle } from "./handle.js";
import { readData } from "./parse.js";
import { findPeople } from "./people.js";
import { createRenewal } from "./renewal.js";
import { createTopicCalls } from "./topic_calls.js";
import { createTopicPolls } from "./topic_polls.js";
import { createRefusals, expire } from "./topic_refusals.js";
import { createTopicTabs } from "./topic_tabs.js";

/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./grants.js").Grant} Grant */
/** @typedef {import("./grants.js").Topic} Topic */

/** @typedef {import("./types.js").TopicOptions} TopicOptions */
/** @typedef {import("./types.js").Ended} Ended */
/** @typedef {import("./handle.js").Handle} Handle */

const MAX_GRANTS = 20; // of one call

/**
 * @param {any} notifier  for its `on` and its state
 * @param {import("./connection.js").Connection} connection
 * @param {import("./position.js").Position} position
 * @param {URL} base
 * @param {import("./poll.js").Polls} polls  their query gets the grants
 * @param {import("./request.js").Request} request
 * @param {unknown} begun  the tab takes part in what tabs say to each other, if it shares
 * @param {() => string} findId  the id of the present stream; "": there is none
 */
export async function createTopics(notifier, connection, position, base, polls, request, begun, findId) {
  /** @type {Map<string, Topic>} */
  const topics = new Map();
  let isJoining = false;
  let past = ""; // the stream before the present one; a leader that hung may name it late
  let hasMore = false; // to join: since the last look, too
  let most = MAX_GRANTS; // of one call; after a refusal one, until the grant is known that is refused
  /** @type {Set<string>} */
  const overtaken = new Set(); // topics that the stream has left during a call, whose answer may be older
  const tell = createTell(topics);
  const renewal = createRenewal(topics, (names) => tell(names, undefined, true), drop, replace);
  const elsewhere = new Map(); // grants of other tabs, when they end and their topics, for the leader's polls
  const isPolling = () => notifier.connectionState.state === "polling";
  const refusals = createRefusals(topics, tell, drop, renewal.renew, retryUnheard);
  const { refused, withoutRoom, setAside, refuse, refuseTokens, remind, namesOf } = refusals;
  const polled = createTopicPolls(topics, elsewhere, polls, position, isPolling, tell, remind, request, refuseAll);
  const stream = createTopicCalls(connection, base, request, () => ask(), join);
  const calls = { stream, follow, lose, tellStates, tellPolls, refuseTokens, hearPolled: polled.hear };
  await begun;
  const tabs = createTopicTabs(topics, elsewhere, connection, calls);
  stream.id = findId(); // a hello may have come meanwhile
  const { ask, post } = tabs;

  notifier.on("*", (/** @type {WireEvent} */ { event, id, data }) => {
    if (event === "hello") return; // see below
    if (event === "reset") tell([...topics.keys()], undefined, event);
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
    if (stream.id) past = stream.id;
    stream.id = hello.connection ?? "";
    if (!isPolling()) polled.allow();
    joinAll();
  });
  notifier.on("reset", (/** @type {any} */ { reason }) => {
    if (reason !== "shared") return;
    stream.id = ""; // this tab was away: another may have the stream now, and have ended the topics
    if (!topics.size) ask(); // this tab may have named its own to the others, before it knew
    joinAll();
  });
  // Without a hello of its own: a tab that joins later, or the end of a time without the broker.
  notifier.on("connectionState", (/** @type {any} */ { state }) => state === "polling" && !stream.id && join());
  notifier.on("topics", (/** @type {any} */ { left }) => {
    // The service has judged the grants of the leader's query; a stream, and another tab, may have others.
    if (isPolling() && connection.leads) refuseAll(polled.grantsOf(left));
    void lose(left).then(renewal.renew);
  });
  notifier.on("state", (/** @type {string} */ _, /** @type {any} */ { final, reason }) => {
    if (!final) return;
    if (reason !== "closed") tell([...topics.keys()], "refused");
    renewal.stop();
    refusals.stop();
    stream.id = ""; // no call that fails is repeated
    tabs.end();
  });
  if (!stream.id || connection.leads) ask();
  return { open };

  /** Another tab has the stream. @param {string} id */
  function follow(id) {
    if (id === past) return;
    stream.id = id;
    if (id !== stream.lost) joinAll();
  }

  /** The stream hears these no longer. @param {string[]} names */
  function lose(names) {
    for (const name of names) {
      const topic = topics.get(name);
      if (topic) Object.assign(topic, { heard: false, state: "" });
      overtaken.add(name);
    }
    withoutRoom.clear();
    return join();
  }

  /** The stream has none of the topics. */
  function joinAll() {
    for (const topic of topics.values()) Object.assign(topic, { heard: false, state: "", isMissing: false });
    void lose([]);
  }

  /**
   * @param {string} token  a grant, or several with spaces between
   * @param {TopicOptions} [options]
   */
  function open(token, { since = position.cursor, renew, onStale, onEnded } = {}) {
    since ||= UNKNOWN; // else each part that is fetched would be older than the one before it
    /** @type {Handle} */
    const handle = { topics: [], user: "", state: "", stale: new Set(), ended: new Set(), renew, ends: new Set() };
    if (onStale) handle.stale.add(onStale);
    if (onEnded) handle.ended.add(onEnded);
    const grants = readGrants(token);
    for (const grant of grants) {
      handle.user = grant.user;
      for (const name of grant.names) {
        const topic = topics.get(name) ?? create(since);
        const isOld = (/** @type {string} */ cursor) => topic.heard && since !== UNKNOWN && isOlder(since, cursor);
        if (topic.last && isOld(topic.last)) onStale?.([name]);
        else if (isOld(topic.from)) topic.heard = false;
        if (!topic.heard) topic.since = oldest(topic.since, since);
        topic.handles.add(handle);
        handle.topics.push(name);
        if (grant.presence) topic.shownBy.add(handle);
        topics.set(name, topic);
      }
    }
    if (notifier.connectionState.state === "refused") drop(handle.topics, "refused");
    take(grants);
    void join();
    return publicHandle(handle, notifier, { close, tellStates, find });
  }

  /** The people of a topic; null while its grant has ended, undefined for good. */
  async function find(/** @type {string} */ name) {
    const topic = topics.get(name);
    return topic && (topic.exp > Date.now() ? findPeople(request, base, name, topic.token) : null);
  }

  /** @param {Handle} handle */
  function close(handle) {
    for (const end of handle.ends) end();
    const left = [];
    const hidden = [];
    for (const name of handle.topics) {
      const topic = topics.get(name);
      topic?.handles.delete(handle);
      const isHidden = topic?.shownBy.delete(handle) && !topic.shownBy.size;
      if (isHidden) hidden.push(name);
      if (isHidden || !topic?.handles.size) left.push(name);
      else tellStates([name]);
    }
    if (!left.length) return;
    tabs.leave(left, hidden);
    for (const name of hidden) {
      const topic = topics.get(name); // the grant of its other handles may have ended
      if (topic) Object.assign(topic, topic.plain, { presence: false });
    }
    renewal.plan();
    void join(); // polls have room for others
  }

  /** Tells the stream what the user does on these topics, where that has changed. @param {string[]} names */
  function tellStates(names) {
    for (const name of names) {
      const topic = topics.get(name);
      if (topic && !isPolling() && stateOf(topic) !== topic.state) topic.heard = false; // polls have no state
    }
    void join();
  }

  /** Adds what the present stream does not hear, one call at a time. */
  async function join() {
    tellPolls();
    hasMore = true;
    if (isJoining) return;
    isJoining = true;
    try {
      do {
        hasMore = false;
      } while ((await joinSome()) || hasMore);
    } finally {
      isJoining = false;
      most = MAX_GRANTS;
    }
    remind([...withoutRoom].filter((name) => topics.get(name)?.heard === false));
  }

  /** Returns whether there may be more to join. */
  async function joinSome() {
    const waiting = [...topics].filter(
      ([name, { heard, exp }]) => !heard && exp > Date.now() && !withoutRoom.has(name),
    );
    if (!waiting.length) return false;
    if (!stream.id) {
      connection.leads || ask(); // the polls of the leader hear what they have room for
      return false;
    }
    const { since } = waiting[0][1];
    const group = waiting.filter(([, topic]) => topic.since === since);
    const add = [...new Set(group.map(([, { token }]) => token))].slice(0, most);
    const on = stream.id;
    const joined = group.filter(([, { token }]) => add.includes(token));
    const states = joined.filter(([, topic]) => stateOf(topic) !== topic.state);
    const state = states.map(([name, topic]) => /** @type {const} */ ([name, stateOf(topic)]));
    overtaken.clear();
    const all = joined.map(([name]) => name);
    const added = tabs.shownOn(all);
    const answer = await stream.change({ add, since: since || UNKNOWN, ...(state.length && { state: onWire(state) }) });
    if (!connection.leads) tabs.endUnneeded(added); // the leader may have ended what this tab has left meanwhile
    if (!answer) return false;
    if (on !== stream.id) return true; // another stream meanwhile
    if (answer.refused) {
      const names = namesOf(add); // others of these have a new one
      if (add.length > 1) most = 1;
      else if (answer.refused !== 409) refuse(names, answer.refused !== 403);
      else {
        const present = await stream.change({});
        if (!present) return false;
        if (on === stream.id) setAside(add[0], waiting, present.topics ?? []);
        most = MAX_GRANTS;
      }
      return true;
    }
    for (const [name, now] of state) {
      if (!overtaken.has(name)) /** @type {Topic} */ (topics.get(name) ?? {}).state = now;
    }
    const idle = state.filter(([, now]) => !now).map(([name]) => name);
    if (idle.length) post({ idle });
    for (const [name, topic] of joined) {
      if (!add.includes(topic.token)) continue; // it has a newer grant
      const isThere = answer.topics.includes(name);
      topic.heard = isThere && !overtaken.has(name);
      if (isThere) refused.delete(name);
      else if (topic.isMissing) expire(topic); // its grant has ended; at first another tab may have ended the topic meanwhile
      topic.isMissing = !isThere && !topic.isMissing;
      if (topic.heard) topic.since = topic.from = answer.cursor;
    }
    if (joined.some(([, { heard }]) => !heard)) void renewal.renew();
    tell(answer.stale);
    tellStates(all); // where they changed meanwhile
    return true;
  }

  function retryUnheard() {
    polled.hear();
    void lose([]);
  }

  /** Polls with one of these grants are refused, of whichever tab it is. @param {string[]} tokens */
  function refuseAll(tokens) {
    // A tab may say one again before it knows.
    for (const { token, exp } of readGrants(tokens.join(" "))) elsewhere.set(token, { exp, names: [] });
    if (tokens.length) post({ refused: tokens });
    refuseTokens(tokens);
  }

  /** @param {Grant[]} grants */
  function take(grants) {
    for (const grant of grants) for (const name of grant.names) update(topics.get(name), grant);
    post({ grants: grants.map(({ token }) => token) });
    renewal.plan();
  }

  /** @param {Grant[]} renewed */
  function replace(renewed) {
    take(renewed);
    for (const name of renewed.flatMap(({ names }) => names)) {
      const topic = topics.get(name);
      if (topic) topic.heard = isPolling() && topic.heard; // until the stream has its new grant; polls go on
    }
    void join();
  }

  /** @param {string[]} names @param {Ended} reason */
  function drop(names, reason) {
    tell(names, reason);
    if (reason === "denied") void tabs.remove(tabs.shownOn(names));
    for (const name of names) topics.delete(name);
    tellPolls();
  }

  /** The leader's polls hear what their query has room for. @param {boolean} [isAsked]  by another tab */
  function tellPolls(isAsked = false) {
    if (!connection.leads) return;
    const { names, isChanged } = polled.fill();
    polled.hear(names);
    if (isPolling() && (isChanged || isAsked)) post({ polled: names });
  }
}
