/**
 * Renewal of grants, before they end: in parts, and with patience while the page's server is away.
 *
 *     planned -> asked -> renewed | denied | unknown (stale once: the page fetches again what shows it) -> ended
 *
 * Owns: when a grant is asked about, what its answer means. Must not know: the stream, other tabs.
 */

import { readGrants } from "./grants.js";
import { pauseMs } from "./pause.js";

/** @typedef {import("./grants.js").Topic} Topic */
/** @typedef {import("./types.js").Renewed} Renewed */
/** @typedef {(old: string[]) => Promise<Renewed>} Ask */

const LEAD_MS = 60_000; // a grant is renewed so long before its end, or at four fifths of its life
const RENEWABLE_MS = 3_600_000; // after its end
const MAX_GRANTS = 50; // of one call

/**
 * @param {Map<string, Topic>} topics
 * @param {(names: string[]) => void} onUnknown  the view is to give their next grant
 * @param {(names: string[], reason: "denied" | "expired") => void} onEnded
 * @param {(grants: import("./grants.js").Grant[]) => void} onRenewed
 */
export function createRenewal(topics, onUnknown, onEnded, onRenewed) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let isAsking = false;
  let failures = 0;
  let notBefore = 0;
  return { plan, renew, stop: () => clearTimeout(timer) };

  function plan() {
    clearTimeout(timer);
    const next = Math.min(
      ...[...topics.values()].map((topic) => (askOf(topic) ? Math.max(dueOf(topic), notBefore) : topic.exp)),
    );
    if (next < Infinity) timer = setTimeout(renew, Math.max(1000, Math.min(next - Date.now(), 2 ** 30)));
  }

  /** Renews the grants that end soon. What cannot be renewed ends, or is stale where the page decides. */
  async function renew() {
    if (isAsking) return;
    isAsking = true;
    let isAnswered = Date.now() >= notBefore;
    const waits = !isAnswered;
    for (const [ask, tokens] of waits ? [] : parts()) isAnswered = (await settle(ask, tokens)) && isAnswered;
    isAsking = false;
    if (isAnswered) failures = 0;
    else if (!waits) notBefore = Date.now() + pause();
    const over = [...topics].filter(([, topic]) => topic.exp <= Date.now() && !(askOf(topic) && isRetried(topic)));
    if (over.length)
      onEnded(
        over.map(([name]) => name),
        "expired",
      );
    plan();
  }

  /** What is to be asked: at most so many grants a call. */
  function parts() {
    /** @type {Map<Ask, Set<string>>} */
    const all = new Map();
    for (const topic of topics.values()) {
      const ask = topic.exp - Date.now() < 2 * LEAD_MS && askOf(topic);
      if (!ask) continue;
      const tokens = all.get(ask) ?? new Set();
      for (const { token } of [topic, topic.plain]) if (token) tokens.add(token);
      all.set(ask, tokens);
    }
    return [...all].flatMap(([ask, tokens]) => {
      const rest = [...tokens];
      const calls = [];
      while (rest.length) calls.push(/** @type {const} */ ([ask, rest.splice(0, MAX_GRANTS)]));
      return calls;
    });
  }

  /** Returns whether every topic of these grants has an answer. @param {Ask} ask @param {string[]} tokens */
  async function settle(ask, tokens) {
    const asked = [...topics].filter(([, { token }]) => tokens.includes(token));
    const answer = await ask(tokens).catch(() => null);
    const { grants = [], denied = [], unknown = [] } = answer ?? {};
    const renewed = grants.flatMap(readGrants);
    if (renewed.length) onRenewed(renewed);
    // A grant that came meanwhile, with a new part of the page, is not concerned.
    const rest = asked.filter(([name, topic]) => topics.get(name) === topic && tokens.includes(topic.token));
    const names = rest.map(([name]) => name);
    for (const [name, topic] of rest) {
      topic.isRefused = answer !== null;
      if (unknown.includes(name)) topic.unknown = topic.token;
    }
    const stale = names.filter((name) => unknown.includes(name));
    if (stale.length) onUnknown(stale);
    const ended = names.filter((name) => denied.includes(name));
    if (ended.length) onEnded(ended, "denied");
    return names.length === stale.length + ended.length;
  }

  /** The time until the next try. In a hidden tab there is no hurry. */
  function pause() {
    return pauseMs(globalThis.document?.hidden ? Infinity : failures++);
  }
}

/** The function that renews the topic's grant; none if its page has answered already that the view decides. @param {Topic} topic */
function askOf({ handles, token, unknown }) {
  return token === unknown ? undefined : /** @type {Ask} */ ([...handles].find(({ renew }) => renew)?.renew);
}

/** @param {Topic} topic */
const dueOf = ({ exp, life }) => exp - Math.min(LEAD_MS, life / 5);

/** @param {Topic} topic */
const isRetried = ({ isRefused, exp }) => !isRefused && exp > Date.now() - RENEWABLE_MS;
