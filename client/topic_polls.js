/**
 * Topics of polls: their query has the grants of the leading tab, then the newest of the others, as many as it has room for. What a
 * poll begins to hear is stale, since polls do not tell what happened before; what has no room is stale once a minute.
 *
 * Must not know: streams, handles, what tabs say to each other.
 */

/** @typedef {import("./grants.js").Topic} Topic */

const MAX_GRANTS = 20;
const MAX_CHARS = 6 * 1024; // the service refuses more
const UNHEARD_MS = 60_000;

/**
 * @param {Map<string, Topic>} topics  of this tab
 * @param {Map<string, {exp: number, names: string[]}>} elsewhere  grants of other tabs
 * @param {import("./poll.js").Polls} polls
 * @param {import("./position.js").Position} position
 * @param {() => boolean} isPolling
 * @param {(names: string[]) => void} onStale
 */
export function createTopicPolls(topics, elsewhere, polls, position, isPolling, onStale) {
  /** @type {string[]} */
  let last = []; // what was heard
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Set<string>} */
  const early = new Set(); // topics whose last grant ended with much of its life left; the next one, too: it is no matter of time
  return { fill, hear, end, stop };

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
      if (names.every((name) => heard.has(name))) continue;
      room -= token.length;
      searchParams.append("grant", token);
      for (const name of names) heard.add(name);
    }
    const isChanged = polls.url.search !== search;
    if (isChanged) polls.asking?.abort();
    return { names: [...heard], isChanged };
  }

  /** The polls hear these topics, and no others. @param {string[]} names */
  function hear(names) {
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
    if (unheard.length && !timer) {
      timer = setTimeout(again, UNHEARD_MS);
      begun.push(...unheard);
    }
    onStale(begun);
  }

  /** The service says that these grants have ended. Returns the topics that no grant will let it hear. @param {string[]} names */
  function end(names) {
    const now = Date.now();
    for (const [token, grant] of elsewhere)
      if (grant.names.some((name) => names.includes(name))) elsewhere.delete(token);
    return names.filter((name) => {
      const topic = topics.get(name);
      if (!topic) return false;
      const isEarly = topic.exp - now > topic.life / 2;
      const isLast = isEarly && early.has(name);
      early[isEarly ? "add" : "delete"](name);
      topic.exp = Math.min(topic.exp, now);
      return isLast;
    });
  }

  function again() {
    timer = undefined;
    hear(last);
  }

  function stop() {
    clearTimeout(timer);
  }
}
