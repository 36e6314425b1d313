/**
 * What the tabs of a browser say to each other about topics. They share a stream, which the leading tab has; it ends a topic that
 * no tab shows, and takes back the state of a tab that has left.
 *
 * Each tab reads what any says, so few speak. A tab that asks sends its grants, and only the leader answers. If the leader asks, every tab
 * with topics answers with its grants, for the leader's polls.
 *
 * Must not know: how topics are joined, handles.
 */

import { onWire, readGrants } from "./grants.js";

/** @typedef {import("./grants.js").Topic} Topic */
/** @typedef {[name: string, isHidden: boolean][]} Gone  topics that tabs have left; `isHidden`: others saw the user there */

const ANSWER_MS = 300; // the other tabs say within this what they show

/**
 * @param {Map<string, Topic>} topics  of this tab
 * @param {Map<string, {exp: number, names: string[]}>} elsewhere  grants of other tabs, for the leader's polls
 * @param {import("./connection.js").Connection} connection
 * @param {object} calls
 * @param {import("./topic_calls.js").TopicCalls} calls.stream  the present one
 * @param {(id: string) => void} calls.follow  another tab has this stream
 * @param {(names: string[]) => void} calls.lose  the stream hears these no longer
 * @param {(names: string[]) => void} calls.tellStates
 * @param {(isAsked: boolean) => void} calls.tellPolls  which grants there are
 * @param {(tokens: string[]) => void} calls.refuseTokens  the leader's polls are refused with these
 * @param {(names: string[]) => void} calls.hearPolled  the leader's polls hear these
 */
export function createTopicTabs(
  topics,
  elsewhere,
  connection,
  { stream, follow, lose, tellStates, tellPolls, refuseTokens, hearPolled },
) {
  /** @type {Map<string, boolean> | null} */
  let leaving = null; // topics of which the leader asks the other tabs; true: whether they show the user
  const post = (/** @type {object} */ message) => connection.post?.(message);
  Object.assign(connection, { receive, depart });
  return { post, ask, leave, shownOn, remove, endUnneeded, end };

  /** Which stream is there? And what this tab shows; the leader, which may have loaded this late, says which. */
  function ask() {
    post({ ask: true, grants: tokens(), ...(connection.leads && { connection: stream.id }) });
  }

  /** Grants that have not ended: the leader would count their life anew. */
  function tokens() {
    return [...new Set([...topics.values()].filter(({ exp }) => exp > Date.now()).map(({ token }) => token))];
  }

  /** The page goes away, and may come back. */
  function depart() {
    const names = [...topics.keys()];
    if (topics.size) post(farewell(names, names.filter(shows)));
  }

  /** This tab has topics no longer, or, of `hidden`, shows its user there no longer. @param {string[]} names @param {string[]} hidden */
  function leave(names, hidden) {
    const message = farewell(names, hidden);
    for (const name of names) if (!topics.get(name)?.handles.size) topics.delete(name);
    post(message);
    if (!connection.leads) return;
    endUnshown(names, hidden);
    void calm(message.idle);
  }

  /** @param {string} name */
  function shows(name) {
    return topics.get(name)?.shownBy.size;
  }

  /** The connection has ended: the leader ends what no other tab shows. */
  function end() {
    depart();
    topics.clear();
  }

  /** What is said of topics that this tab leaves; on some of them its state is the stream's, or others see the user. @param {string[]} left @param {string[]} hidden */
  function farewell(left, hidden) {
    return { left, hidden, idle: left.filter((name) => topics.get(name)?.state) };
  }

  /** The leader takes the state of a tab that has left from the stream; the others tell theirs. @param {string[]} names */
  async function calm(names) {
    if (!names.length || !connection.post || !stream.id) return;
    await stream.change({ state: onWire(names.map((name) => [name, ""])) }, () => calm(names));
    post({ idle: names });
    reset(names);
  }

  /** The stream has no state on these topics now. @param {string[]} names */
  function reset(names) {
    for (const name of names) {
      const topic = topics.get(name);
      if (topic) topic.state = "";
    }
    tellStates(names);
  }

  /** What another tab says. @param {any} message */
  function receive({
    ask: isAsked,
    connection: id,
    left,
    hidden = [],
    kept = [],
    shown = kept, // of an older version
    removed,
    grants,
    idle,
    polled,
    refused,
  }) {
    if (isAsked && connection.leads) post({ connection: stream.id });
    if (isAsked && id !== undefined && topics.size) post({ grants: tokens() });
    if (id && id !== stream.id && !connection.leads) follow(id);
    if (left && connection.leads) endUnshown(left, hidden);
    else if (left)
      post({ kept: left.filter((/** @type {string} */ name) => topics.has(name)), shown: left.filter(shows) });
    if (idle && left && connection.leads) void calm(idle);
    else if (idle && !left) reset(idle);
    for (const name of kept) spare(name);
    for (const name of shown) spare(name, true);
    if (removed) rejoin(removed);
    if (grants && connection.leads) {
      for (const [token, { exp }] of elsewhere) if (exp <= Date.now()) elsewhere.delete(token);
      for (const { token, exp, names, presence } of readGrants(grants.join(" "))) {
        for (const name of names) spare(name, presence); // the page of a tab that was loaded again
        if (!elsewhere.has(token)) elsewhere.set(token, { exp, names });
      }
      tellPolls(true);
    }
    if (refused) refuseTokens(refused);
    if (polled && !connection.leads) hearPolled(polled);
  }

  /** A tab has this topic. @param {string} name @param {boolean} [isShown]  and shows its user there */
  function spare(name, isShown) {
    if (isShown || !leaving?.get(name)) leaving?.delete(name);
  }

  /** The stream may have lacked them before this tab knows: what came since the last join may not be all. @param {string[]} names */
  function rejoin(names) {
    for (const name of names) {
      const topic = topics.get(name);
      if (topic?.heard) topic.since = topic.from;
    }
    lose(names);
  }

  /** The leader ends topics that no tab has, and `hidden` where no tab shows its user. @param {string[]} names @param {string[]} hidden */
  function endUnshown(names, hidden) {
    if (!leaving) setTimeout(removeUnshown, connection.post ? ANSWER_MS : 0);
    leaving ??= new Map();
    for (const name of names) leaving.set(name, leaving.get(name) || hidden.includes(name));
    post({ left: names });

    function removeUnshown() {
      const gone = [...(leaving ?? [])].filter(isUnneeded);
      leaving = null;
      if (gone.length) void remove(gone);
    }
  }

  /** These topics, as they are now. @param {string[]} names @returns {Gone} */
  function shownOn(names) {
    return names.map((name) => [name, Boolean(topics.get(name)?.presence)]);
  }

  /** Ends those of these topics that this tab needs no longer. @param {Gone} gone */
  function endUnneeded(gone) {
    const unneeded = gone.filter(isUnneeded);
    if (unneeded.length) leave(namesOf(unneeded), namesOf(unneeded.filter(([, isHidden]) => isHidden)));
  }

  /** @param {Gone[number]} topic */
  function isUnneeded([name, isHidden]) {
    return !(isHidden ? shows(name) : topics.has(name));
  }

  /** The stream is to leave these. @param {Gone} gone */
  async function remove(gone) {
    if (!stream.id) return;
    const names = namesOf(gone);
    await stream.change({ remove: names }, () => endUnneeded(gone));
    post({ removed: names }); // a tab that showed one of them meanwhile, or was too slow to say so, joins again
    rejoin(names);
  }
}

/** @param {Gone} gone */
const namesOf = (gone) => gone.map(([name]) => name);
