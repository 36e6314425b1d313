/**
 * Grants and cursors as values: which topics a grant has, which topic an event names, which of two cursors is older.
 *
 * Must not know: streams.
 */

import { claimsOf } from "./token.js";

export const UNKNOWN = "-"; // the cursor of a page that has none: a part that comes later is fresh, else it is fetched for ever

/**
 * @typedef {object} Grant
 * @property {string} token
 * @property {string[]} names
 * @property {string} user  whose it is
 * @property {boolean} presence  others see the user
 * @property {number} life  ms
 * @property {number} exp  ms since 1970, by this device's clock
 */

/**
 * @typedef {object} Topic
 * @property {string} token   its newest grant
 * @property {number} exp     when that ends, ms since 1970 by this device's clock
 * @property {number} life    how long it is good for, ms
 * @property {boolean} presence  by this grant others see the user
 * @property {Partial<Grant>} plain  the newest grant by which they do not
 * @property {string} state   what the stream says that the user does there, of this tab; "": nothing special
 * @property {string} since   until this cursor the page has everything
 * @property {boolean} heard  the present stream has it
 * @property {string} from    since this cursor it has it
 * @property {string} last    the newest event that may be the topic's
 * @property {boolean} [isMissing]  it was not among the stream's topics after its last join
 * @property {string} [unknown]    the grant of which the page's server said that the view decides
 * @property {boolean} [isRefused]  at the last renewal it was answered, and not renewed
 * @property {Set<any>} handles
 * @property {Set<any>} shownBy  those of them whose grant shows the user
 */

/** @param {string} since @returns {Topic} */
export const create = (since) => ({
  token: "",
  exp: 0,
  life: 0,
  presence: false,
  plain: {},
  state: "",
  since,
  heard: false,
  from: "",
  last: "",
  handles: new Set(),
  shownBy: new Set(),
});

/** @param {string} tokens @returns {Grant[]} */
export function readGrants(tokens) {
  return tokens
    .split(" ")
    .filter(Boolean)
    .map((token) => {
      const { topics = [], exp, iat, sub = "", presence = false } = claimsOf(token);
      const life = 1000 * exp - (iat ? 1000 * iat : Date.now()); // it counts, not this device's clock
      return { token, names: topics, user: sub, presence, life, exp: Date.now() + life };
    });
}

/**
 * Whether a grant is to replace the present one of a topic: it ends later, and others see the user as before. One that shows the user
 * replaces one that does not; the other way round only where the page's server has left the next grant to the view.
 *
 * @param {Grant} grant
 * @param {Topic} topic
 */
function isBetter({ presence, exp }, topic) {
  if (presence !== topic.presence && topic.token) return presence || (topic.token === topic.unknown && exp > topic.exp);
  return exp > topic.exp;
}

/** A topic gets a grant, where that is the better one. @param {Topic | undefined} topic @param {Grant} grant */
export function update(topic, grant) {
  const { token, exp, life, presence } = grant;
  if (!presence && topic && exp > (topic.plain.exp ?? 0)) topic.plain = { token, exp, life };
  if (!topic || (presence && !topic.shownBy.size) || !isBetter(grant, topic)) return;
  if (presence && !topic.presence) topic.heard = false; // until the stream has this grant
  Object.assign(topic, { token, exp, life, presence });
}

/** What the user does on a topic: the state of the first of its handles that has one. @param {Topic} topic @returns {string} */
export const stateOf = ({ handles }) => [...handles].find(({ state }) => state)?.state ?? "";

/** States by topic, for the service. @param {(readonly [string, string])[]} states */
export const onWire = (states) => Object.fromEntries(states.map(([name, state]) => [name, state || "viewing"]));

/** The topic that an event names; null: it is for users; undefined: it names none. @param {any} data */
export function topicOf(data) {
  if (typeof data?.topic === "string") return data.topic;
  if (typeof data?.to !== "string") return undefined;
  return data.to.startsWith("topic:") ? data.to.slice(6) : null;
}

const PARTS = /^(.*)-(\d+)$/;

/** Whether a cursor is before another one for certain. @param {string} a @param {string} b */
export function isOlder(a, b) {
  const [, epoch, seq] = PARTS.exec(a) ?? [];
  const [, other, end] = PARTS.exec(b) ?? [];
  return epoch !== other || Number(seq) < Number(end);
}

/** Until which cursor a page has everything, of parts that have it until `a` and `b`. @param {string} a @param {string} b */
export function oldest(a, b) {
  const [epoch, other] = [a, b].map((cursor) => PARTS.exec(cursor)?.[1]);
  if (!epoch || epoch !== other) return UNKNOWN;
  return isOlder(a, b) ? a : b;
}
