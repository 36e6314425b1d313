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
const AGAIN_MS = 300_000; // the query grows so long after a 409, and after it grew

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
  let growAt = 0; // the service may hear more then
  polls.request = async (url, init) => {
    const response = await request(url, init);
    const status = response?.status;
    if (status === 200 && Date.now() > growAt) allow(2 * most + 1);
    if (status === 409) allow(last.length >> 1); // the user's token has topics, too
    if (status === 403) await findRefused(init);
    init.signal?.throwIfAborted(); // the query is another now: it is asked again
    return response;
  };
  return { fill, hear, allow, grantsOf };

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
      if (token.length > room || queried().length === MAX_GRANTS) continue;
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

  /** The query may have so many topics: without a count, as many as ever. */
  function allow(count = MAX_TOPICS) {
    most = Math.min(count, MAX_TOPICS);
    growAt = Date.now() + AGAIN_MS;
    onRefused([]);
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
   */
  async function findRefused(init) {
    const rest = queried();
    if (!rest.length || (await isRefused(init))) return; // the last: the user may not poll
    /** @type {string[]} */
    const bad = [];
    while (rest.length)
      await Promise.all(
        rest.splice(0, AT_ONCE).map(async (token) => (await isRefused(init, token)) && bad.push(token)),
      );
    if (!bad.length) throw new Error(); // the poll is a failed attempt
    onRefused(bad);
  }

  /** Whether a poll with one grant, or with none, is refused. @param {Parameters<import("./request.js").Request>[1]} init @param {string} [token] */
  async function isRefused(init, token) {
    const target = new URL(polls.url);
    target.searchParams.delete("grant");
    if (token) target.searchParams.set("grant", token);
    target.searchParams.set("wait_s", "0");
    const status = (await request(target, init))?.status;
    if (status !== 200 && status !== 403) throw new Error();
    return status === 403;
  }
}
