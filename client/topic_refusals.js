/**
 * What the service does not let a page hear.
 *
 *     grant refused -> renewed -> heard | refused again: ended
 *     no room for a topic -> stale now and once a minute, and tried again
 *
 * Must not know: streams, polls, other tabs.
 */

/** @typedef {import("./grants.js").Topic} Topic */

const UNHEARD_MS = 60_000;

/**
 * @param {Map<string, Topic>} topics
 * @param {(names: string[]) => void} onStale
 * @param {(names: string[], reason: "refused") => void} onEnded
 * @param {() => void} renew
 * @param {() => void} retry  what had no room
 */
export function createRefusals(topics, onStale, onEnded, renew, retry) {
  /** @type {Set<string>} */
  const refused = new Set(); // topics whose last grant was refused with much of its life left; the next one, too: it is no matter of time
  /** @type {Set<string>} */
  const beyond = new Set(); // topics that the stream has no room for, until it may have
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return {
    refused,
    beyond,
    refuse,
    refuseTokens: (/** @type {string[]} */ tokens) => refuse(namesOf(tokens)),
    remind,
    namesOf,
    stop: () => clearTimeout(timer),
  };

  /**
   * The grants of these count for nothing. They may have ended by the service's clock, as in a page from a cache: the next ones are tried.
   *
   * @param {string[]} names
   * @param {boolean} [isFinal]
   */
  function refuse(names, isFinal) {
    const over = names.filter((name) => {
      const topic = topics.get(name);
      const isEarly = topic && topic.exp - Date.now() > topic.life / 2;
      const isLast = isFinal || (isEarly && refused.has(name));
      refused[isEarly ? "add" : "delete"](name);
      end(topic);
      return isLast;
    });
    onEnded(over, "refused");
    renew();
  }

  /** These are not heard: the page fetches them now and then. @param {string[]} names */
  function remind(names) {
    if (timer || !names.length) return;
    timer = setTimeout(() => {
      timer = undefined;
      retry();
    }, UNHEARD_MS);
    onStale(names);
  }

  /** Topics whose grant is among these. @param {string[]} tokens */
  function namesOf(tokens) {
    return [...topics].filter(([, { token }]) => tokens.includes(token)).map(([name]) => name);
  }
}

/** The grant of a topic has ended. @param {Topic} [topic] */
export function end(topic) {
  if (topic) topic.exp = Math.min(topic.exp, Date.now());
}
