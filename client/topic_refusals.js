/**
 * What the service does not let a page hear.
 *
 *     grant refused -> renewed -> heard | refused again: ended
 *     no room for a topic -> stale now and once a minute, and tried again
 *
 * Must not know: streams, polls, other tabs.
 */

import { readGrants } from "./grants.js";

/** @typedef {import("./grants.js").Topic} Topic */

const UNHEARD_MS = 60_000;
const AGAIN_MS = 300_000; // two refusals further apart than this, or than a grant's life, are not in a row

/**
 * @param {Map<string, Topic>} topics
 * @param {(names: string[]) => void} onStale
 * @param {(names: string[], reason: "refused") => void} onEnded
 * @param {() => void} renew
 * @param {() => void} retryUnheard
 */
export function createRefusals(topics, onStale, onEnded, renew, retryUnheard) {
  /** Topics whose last grant was refused early in its life, and when. If the next grant is refused too, the topic ends. @type {Map<string, number>} */
  const refused = new Map();
  /** @type {Set<string>} */
  const withoutRoom = new Set(); // topics that the stream has no room for, until it may have
  /** @type {Set<string>} */
  const warned = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return {
    refused,
    withoutRoom,
    setAside,
    refuse,
    refuseTokens: (/** @type {string[]} */ tokens) => refuse(namesOf(tokens)),
    remind,
    namesOf,
    stop: () => clearTimeout(timer),
  };

  /**
   * The service refused the grants of these topics. They may have ended by its clock, as in a page from a cache: the next ones are tried.
   *
   * @param {string[]} names
   * @param {boolean} [isFinal]
   */
  function refuse(names, isFinal) {
    const over = names.filter((name) => {
      const topic = topics.get(name);
      const now = Date.now();
      if (!topic || topic.exp <= now) return false; // it is known
      const isEarly = topic.exp - now > topic.life / 2;
      const isLast = isFinal || (isEarly && now - (refused.get(name) ?? 0) < Math.min(topic.life, AGAIN_MS));
      if (isEarly) refused.set(name, now);
      else refused.delete(name);
      expire(topic);
      return isLast;
    });
    warn(over, "refused");
    onEnded(over, "refused");
    if (names.length) renew();
  }

  /**
   * The stream has no room for a grant, nor for others that need as much.
   *
   * @param {string} token
   * @param {[string, Topic][]} waiting  to be heard
   * @param {string[]} present  the topics of the stream
   */
  function setAside(token, waiting, present) {
    const roomOf = (/** @type {string} */ other) =>
      readGrants(other)[0].names.filter((name) => !present.includes(name)).length;
    const room = Math.max(1, roomOf(token));
    const names = waiting
      .filter(([, { token: other }]) => other === token || roomOf(other) >= room)
      .map(([name]) => name);
    for (const name of names) withoutRoom.add(name);
    warn(names, "no room");
  }

  /** Once for a topic. @param {string[]} names @param {string} reason */
  function warn(names, reason) {
    const others = names.filter((name) => !warned.has(name));
    if (others.length) console.warn("notifier: not heard:", others, reason);
    for (const name of others) warned.add(name);
  }

  /** These are not heard: the page fetches them now and then. @param {string[]} names */
  function remind(names) {
    if (timer || !names.length) return;
    timer = setTimeout(() => {
      timer = undefined;
      retryUnheard();
    }, UNHEARD_MS);
    onStale(names);
  }

  /** Topics whose grant is among these. @param {string[]} tokens */
  function namesOf(tokens) {
    return [...topics].filter(([, { token }]) => tokens.includes(token)).map(([name]) => name);
  }
}

/** The grant of a topic has ended. @param {Topic} [topic] */
export function expire(topic) {
  if (topic) topic.exp = Math.min(topic.exp, Date.now());
}
