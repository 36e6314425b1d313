/**
 * Topics of polls: their query has the grants of the leading tab, then the newest of the others, as many as it has room for. What a
 * poll begins to hear is stale, since polls do not tell what happened before; what has no room is stale once a minute.
 *
 * The service refuses a query with one bad grant as a whole, and does not say which it is: each is then tried alone, and the bad ones leave
 * the query.
 *
 * Must not know: streams, handles, what tabs say to each other.
 */

import { jsonCall } from "./request.js";

/** @typedef {import("./grants.js").Topic} Topic */

const MAX_GRANTS = 20;
const MAX_CHARS = 6 * 1024; // the service refuses more
const MAX_TOPICS = 200;

/**
 * @param {Map<string, Topic>} topics  of this tab
 * @param {Map<string, {exp: number, names: string[]}>} elsewhere  grants of other tabs
 * @param {import("./poll.js").Polls} polls
 * @param {import("./position.js").Position} position
 * @param {() => boolean} isPolling
 * @param {(names: string[]) => void} onStale
 * @param {(names: string[]) => void} onUnheard
 * @param {import("./request.js").Request} request
 * @param {(tokens: string[]) => void} onRefused
 */
export function createTopicPolls(
  topics,
  elsewhere,
  polls,
  position,
  isPolling,
  onStale,
  onUnheard,
  request,
  onRefused,
) {
  /** @type {string[]} */
  let last = []; // what was heard
  let most = MAX_TOPICS;
  polls.request = async (url, init) => {
    const response = await request(url, init);
    await check(response?.status);
    init.signal?.throwIfAborted(); // the query is another now: it is asked again
    return response;
  };
  return { fill, hear, forget };

  /** Puts the grants into the query. Returns the topics that it hears, and whether the query is another. */
  function fill() {
    const { searchParams, search } = polls.url;
    /** @type {Map<string, string[]>} */
    const known = new Map();
    for (const [name, { token, exp }] of topics) {
      if (exp > Date.now()) known.set(token, [...(known.get(token) ?? []), name]);
    }
    for (const [token, { exp, names }] of [...elsewhere].reverse()) {
      if (exp > Date.now() && !known.has(token)) known.set(token, names);
    }
    /** @type {Set<string>} */
    const heard = new Set();
    let room = MAX_CHARS;
    searchParams.delete("grant");
    for (const [token, names] of known) {
      if (token.length > room || searchParams.getAll("grant").length === MAX_GRANTS) continue;
      const added = names.filter((name) => !heard.has(name));
      if (!added.length || heard.size + added.length > most) continue;
      room -= token.length;
      searchParams.append("grant", token);
      for (const name of names) heard.add(name);
    }
    const isChanged = polls.url.search !== search;
    if (isChanged) polls.asking?.abort();
    return { names: [...heard], isChanged };
  }

  /** The polls hear these topics, and no others. */
  function hear(names = last) {
    last = names;
    if (!isPolling()) return;
    const [begun, unheard] = [/** @type {string[]} */ ([]), /** @type {string[]} */ ([])];
    for (const [name, topic] of topics) {
      const isHeard = names.includes(name) || names.includes(topic.token); // tokens: of a tab of the version before
      if (isHeard && !topic.heard) {
        topic.since = topic.from = position.cursor; // a part that is fetched from now on is fresh
        begun.push(name);
      }
      if (!isHeard && topic.exp > Date.now()) unheard.push(name);
      topic.heard = isHeard;
    }
    onStale(begun);
    onUnheard(unheard);
  }

  /** The service says that the grants of these have ended. @param {string[]} names */
  function forget(names) {
    for (const [token, grant] of elsewhere)
      if (grant.names.some((name) => names.includes(name))) elsewhere.delete(token);
    return names;
  }

  /** A poll was refused: the next one asks for less, if it can. @param {number} [status] */
  async function check(status) {
    const target = new URL(polls.url);
    const tokens = target.searchParams.getAll("grant");
    /** @type {string[]} */
    const bad = [];
    if (!tokens.length) return;
    if (status === 409)
      most = last.length >> 1; // the user's token has topics, too
    else if (status !== 403) return;
    else
      for (const token of tokens) {
        target.searchParams.set("grant", token);
        target.searchParams.set("wait_s", "0");
        const answer = await request(target, jsonCall("GET"));
        if (answer?.status === 403) bad.push(token);
      }
    for (const token of bad) elsewhere.delete(token);
    onRefused(bad);
  }
}
