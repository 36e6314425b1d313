/** A tab with topics, and a service that refuses some of them: without a network. */

import { withPoll } from "../../client/poll.js";
import { createTopics } from "../../client/topics.js";
import { takePart } from "./tabs.js";
import { topicsOf } from "./topic_service.js";

const BASE = new URL("http://notifier.test/");
export const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
export const iat = Math.floor(Date.now() / 1000);
export const grant = (name, n = 0) => `${part({})}.${part({ topics: [name], iat, exp: iat + 300 + n })}.x`;

export const turns = async () => {
  for (let n = 0; n < 50; n += 1) await new Promise(setImmediate);
};

/** Waits for a condition, until the test's time is over. */
export const until = async (t, isDone) => {
  while (!isDone() && !t.signal.aborted) await turns();
};

export const LIMIT = { timeout: 20_000 };

/** A tab with a stream, or with polls where it has none; `answer(body, url)` answers the service's calls. */
export async function tab(t, answer, { connectionId = "", key = "", leads = true } = {}) {
  const handlers = {};
  const told = [];
  const urls = [];
  const notifier = {
    on: (name, handler) => (handlers[name] = handler),
    connectionState: { state: connectionId ? "open" : "polling" },
  };
  const request = async (url, { body, signal }) => {
    if (url.pathname === "/v1/poll") urls.push(url);
    const { status = 200, ...answered } = await answer(body && JSON.parse(body), url, signal);
    return new Response(JSON.stringify(answered), { status });
  };
  const polls = { url: new URL("/v1/poll", BASE) };
  const connection = { leads, state: "live" };
  if (key) takePart(t, connection, key);
  const position = { cursor: "e-5" };
  const topics = await createTopics(notifier, connection, position, BASE, polls, request, null, () => connectionId);
  t.after(() => handlers.state("closed", { final: true }));
  const open = (token, options) =>
    topics.open(token, {
      since: "e-5",
      onStale: (names) => told.push(...names.map((name) => `stale ${name}`)),
      onEnded: (names, reason) => told.push(...names.map((name) => `${reason} ${name}`)),
      ...options,
    });
  return { open, told, polls, request, urls, handlers, notifier };
}

/** A stream with room for so many topics. */
export function stream(most) {
  const heard = new Set();
  const tries = [];
  const answer = ({ add = [], remove = [] }) => {
    const names = topicsOf({ add });
    if (names.length) tries.push(names);
    if (new Set([...heard, ...names]).size > most) return { status: 409 };
    for (const name of names) heard.add(name);
    for (const name of remove) heard.delete(name);
    return { topics: [...heard], cursor: "e-7", stale: [] };
  };
  return { heard, tries, answer };
}

/** A service with polls, which knows some grants only, and hears so many topics. */
export function polled(bad, most = 200) {
  return async (_, { searchParams }, signal) => {
    const grants = searchParams.getAll("grant");
    if (grants.some((token) => bad.includes(token))) return { status: 403 };
    if (grants.length > most) return { status: 409 };
    if (searchParams.get("wait_s") === "25")
      await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    return { cursor: "e-6", recovered: true, events: [], tasks: [], unread: 0 };
  };
}

/** The last poll has no answer yet, as nothing happens. */
export const isWaiting = ({ urls }) => urls.at(-1)?.searchParams.get("wait_s") === "25";

/** Polls until the test ends. */
export function run(t, { polls, request }) {
  const [events, ends] = [[], []];
  const open = withPoll(polls, request);
  const link = open(
    "",
    () => {},
    ({ event }) => events.push(event),
    () => {},
    (end) => ends.push(end),
  );
  t.after(link.close);
  return { events, ends, link };
}
