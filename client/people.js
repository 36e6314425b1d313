/**
 * The people of a topic: read once, then kept by events.
 *
 * Owns: the list of one topic. Must not know: how a topic is heard, what shows people.
 */

import { jsonCall } from "./request.js";

/** @typedef {{id: string, name: string | null, state: string}} Person  `state`: "viewing", or what the user's page says */
/** @typedef {{count: number, users: Person[]}} People  `users`: all; none where they are more than 100 */
/** @typedef {People & {topic: string}} Present */
/** @typedef {People & {topic: string, joined: Person[], left: Person[], changed: Person[]}} Change  `users`: absent */

const MOST = 100; // with more people only their number is known
const RETRY_MS = 2000; // twice this at most, at random

/**
 * Asks the service who is on a topic now.
 *
 * @param {import("./request.js").Request} request
 * @param {URL} base
 * @param {string} topic
 * @param {string} grant
 * @returns {Promise<People | null>}  null: not now
 */
export async function findPeople(request, base, topic, grant) {
  const url = new URL(`v1/topics/${encodeURIComponent(topic)}/presence`, base);
  url.searchParams.set("grant", grant);
  const response = await request(url, jsonCall("GET"));
  return response?.ok ? response.json() : null;
}

/**
 * Calls `handler` with the people of a topic at every change, until the signal. Returns a function that reads them again.
 *
 * @param {any} notifier
 * @param {string} topic
 * @param {(name: string) => Promise<People | null | undefined>} find  null: not now; undefined: never
 * @param {(people: Present) => void} handler
 * @param {AbortSignal} signal
 */
export function watchPeople(notifier, topic, find, handler, signal) {
  /** @type {Map<string, Person>} */
  let users = new Map();
  let isComplete = false;
  /** @type {Change[] | undefined} */
  let missed; // since the list was asked for
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const ends = [
    notifier.on("presence", (/** @type {Change} */ change) => change.topic === topic && receive(change)),
    notifier.on("hello", again), // what came while no stream was open is missing
  ];
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    for (const end of ends) end();
  });
  if (!signal.aborted) void read();
  return again;

  /** @param {Change} change */
  function receive(change) {
    const { count, joined } = change;
    if (joined.length === count || count > MOST) {
      users = new Map();
      isComplete = true;
    }
    if (!isComplete) return void missed?.push(change);
    apply(change);
    if (users.size === count || count > MOST) show(count);
    else again();
  }

  /** @param {Change} change */
  function apply({ joined, left, changed }) {
    for (const { id } of left) users.delete(id);
    for (const person of [...joined, ...changed]) users.set(person.id, person);
  }

  function again() {
    isComplete = false;
    void read();
  }

  /** Unless an event has named everyone meanwhile. */
  async function read() {
    /** @type {Change[]} */
    const own = [];
    missed = own;
    const people = await find(topic).catch(() => null);
    if (signal.aborted || isComplete || people === undefined || own !== missed) return;
    if (!people) return later();
    users = new Map(people.count > MOST ? [] : people.users.map((person) => [person.id, person]));
    own.forEach(apply);
    const count = own.at(-1)?.count ?? people.count;
    if (users.size !== count && count <= MOST) return later(); // these were before or after the list
    isComplete = true;
    show(count);
  }

  function later() {
    clearTimeout(timer);
    timer = setTimeout(() => isComplete || read(), RETRY_MS * (1 + Math.random()));
  }

  /** @param {number} count */
  function show(count) {
    handler({ topic, count, users: [...users.values()] });
  }
}
