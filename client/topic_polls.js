/**
 * Topics of polls: their query has the grants of the leading tab, then the newest of the others, as many as it has room for. What a
 * poll begins to hear is stale, since polls do not tell what happened before; what has no room is stale once a minute.
 *
 * The service refuses a query with one bad grant as a whole, and does not say which it is: each is then tried alone, and the bad ones leave
 * the query.
 *
 * Must not know: streams, handles, what tabs say to each other.
 */

import { readGrants } from "./grants.js";

/** @typedef {import("./grants.js").Topic} Topic */

const MAX_GRANTS = 20;
const MAX_CHARS = 6 * 1024; // the service refuses more
const MAX_TOPICS = 200;
const AT_ONCE = 5; // grants that are tried

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
    await shrinkQuery(init, response?.status);
    init.signal?.throwIfAborted(); // the query is another now: it is asked again
    return response;
  };
  return { fill, hear, grow, grantsOf };

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

  /** The service may hear as much as ever again. */
  function grow() {
    most = MAX_TOPICS;
  }

  /** The grants of the query for these topics. @param {string[]} names */
  function grantsOf(names) {
    return queried().filter((token) => readGrants(token)[0].names.some((name) => names.includes(name)));
  }

  function queried() {
    return polls.url.searchParams.getAll("grant");
  }

  /**
   * A poll was refused: the next one asks for less. Fails where it cannot be known what is refused, so that the poll is tried again later.
   *
   * @param {Parameters<import("./request.js").Request>[1]} init  of the poll
   * @param {number} [status]
   */
  async function shrinkQuery(init, status) {
    const tokens = queried();
    if (!tokens.length || (status !== 403 && status !== 409)) return;
    /** @type {string[]} */
    const bad = [];
    if (status === 409)
      most = last.length >> 1; // the user's token has topics, too
    else {
      if (await isRefused(init)) return; // the user may not poll
      const rest = [...tokens];
      while (rest.length)
        await Promise.all(
          rest.splice(0, AT_ONCE).map(async (token) => (await isRefused(init, token)) && bad.push(token)),
        );
      if (!bad.length) throw new Error("no grant is refused alone");
    }
    onRefused(bad);
  }

  /** Whether a poll with one grant, or with none, is refused. @param {Parameters<import("./request.js").Request>[1]} init @param {string} [token] */
  async function isRefused(init, token) {
    const target = new URL(polls.url);
    target.searchParams.delete("grant");
    if (token) target.searchParams.set("grant", token);
    target.searchParams.set("wait_s", "0");
    const status = (await request(target, init))?.status;
    if (status !== 403 && status !== 200) throw new Error(`The service answered ${status}`);
    return status === 403;
  }
}
