/** What the service does not let a page hear: no topic becomes silent. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { withPoll } from "../../client/poll.js";
import { createTopics } from "../../client/topics.js";
import { topicsOf } from "./topic_service.js";

const BASE = new URL("http://notifier.test/");
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const iat = Math.floor(Date.now() / 1000);
const grant = (name, n = 0) => `${part({})}.${part({ topics: [name], iat, exp: iat + 300 + n })}.x`;

const turns = async () => {
  for (let n = 0; n < 50; n += 1) await new Promise(setImmediate);
};

/** A tab with a stream, or with polls where it has none; `answer(body, url)` answers the service's calls. */
async function tab(t, answer, { connectionId = "", key = "", leads = true } = {}) {
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
  const topics = await createTopics(
    notifier,
    { leads, state: "live" },
    { cursor: "e-5" },
    BASE,
    polls,
    request,
    key ? async () => key : null,
    () => connectionId,
  );
  t.after(() => handlers.state("closed", { final: true }));
  const open = (token, options) =>
    topics.open(token, {
      since: "e-5",
      onStale: (names) => told.push(...names.map((name) => `stale ${name}`)),
      onEnded: (names, reason) => told.push(...names.map((name) => `${reason} ${name}`)),
      ...options,
    });
  return { open, told, polls, request, urls, handlers };
}

/** A stream with room for so many topics. */
function stream(most) {
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

test("what a stream has no room for is stale at once and once a minute, and heard when there is room", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(console, "warn", () => {});
  const { heard, tries, answer } = stream(2);
  const { open, told } = await tab(t, answer, { connectionId: "c1" });
  const [first] = ["a", "b", "c", "d"].map((name) => open(grant(name)));
  await turns();
  assert.deepEqual(
    [[...heard], told],
    [
      ["a", "b"],
      ["stale c", "stale d"],
    ],
  );
  open(grant("c", 1)); // the part that was fetched
  await turns();
  assert.equal(told.length, 2);
  tries.length = 0;
  t.mock.timers.tick(60_000);
  await turns();
  assert.deepEqual(told.slice(2), ["stale c", "stale c", "stale d"]);
  assert.ok(tries.length <= 3, `${tries.length} calls`);
  first.close();
  t.mock.timers.tick(300); // the other tabs do not show it
  await turns();
  assert.deepEqual([[...heard], told.length], [["b", "c"], 5]);
  t.mock.timers.tick(60_000);
  await turns();
  assert.deepEqual(told.slice(5), ["stale d"]);
});

/** A service with polls, which knows some grants only, and hears so many topics. */
function polled(bad, most = 200) {
  return async (_, { searchParams }, signal) => {
    const grants = searchParams.getAll("grant");
    if (grants.some((token) => bad.includes(token))) return { status: 403 };
    if (grants.length > most) return { status: 409 };
    if (searchParams.get("wait_s") === "25")
      await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    return { cursor: "e-6", recovered: true, events: [], tasks: [], unread: 0 };
  };
}

/** Polls until the test ends. */
function run(t, { polls, request }) {
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
  return { events, ends };
}

test("a poll that is refused for one grant goes on with the others, and the part of that grant is told", async (t) => {
  const [good, bad] = [grant("a"), grant("b")];
  const page = await tab(t, polled([bad]));
  page.open(good);
  page.open(bad);
  page.told.length = 0;
  const { events, ends } = run(t, page);
  while (page.urls.at(-1)?.searchParams.get("wait_s") !== "25" && !ends.length) await turns();
  assert.deepEqual([events, ends, page.told], [["hello"], [], ["expired b"]]);
  assert.deepEqual(page.urls.at(-1).searchParams.getAll("grant"), [good]);
});

test("a grant of which polls are refused is renewed once; the next one that is refused as well ends", async (t) => {
  const [first, next] = [grant("b"), grant("b", 1)];
  const page = await tab(t, polled([first, next]));
  page.open(first, { renew: async () => ({ grants: [next] }) });
  page.told.length = 0;
  const { ends } = run(t, page);
  while (!(page.told.includes("refused b") && page.urls.at(-1)?.searchParams.get("wait_s") === "25") && !ends.length)
    await turns();
  assert.deepEqual([ends, page.told], [[], ["stale b", "refused b"]]);
  assert.equal(page.urls.filter(({ searchParams }) => searchParams.has("grant", next)).length, 2); // in the query, and alone
});

test("polls without a good grant go on for the inbox, and a user who may not poll is refused", async (t) => {
  const bad = grant("b");
  const page = await tab(t, polled([bad]));
  page.open(bad);
  const { events, ends } = run(t, page);
  while (!events.length && !ends.length) await turns();
  assert.deepEqual([events, ends], [["hello"], []]);
  const other = await tab(t, async () => ({ status: 403 }));
  other.open(grant("a"));
  const refused = run(t, other);
  while (!refused.ends.length) await turns();
  assert.equal(refused.ends[0].status, 403);
});

test("the tab whose grant the leader's polls are refused with is told", { timeout: 20_000 }, async (t) => {
  const bad = grant("b");
  const leader = await tab(t, polled([bad]), { key: "r1" });
  const follower = await tab(t, polled([]), { key: "r1", leads: false });
  follower.open(bad);
  while (!leader.polls.url.searchParams.has("grant") && !t.signal.aborted) await turns();
  const { ends } = run(t, leader);
  while (!follower.told.includes("expired b") && !t.signal.aborted) await turns();
  assert.deepEqual([leader.polls.url.searchParams.getAll("grant"), ends], [[], []]);
});

test("polls ask for less where the service hears fewer topics, and the others are stale", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const page = await tab(t, polled([], 3));
  for (const name of ["a", "b", "c", "d"]) page.open(grant(name));
  page.told.length = 0;
  const { events, ends } = run(t, page);
  while (!events.length && !ends.length) await turns();
  assert.deepEqual([ends, page.told], [[], ["stale c", "stale d"]]);
});

test("the people of a topic that is stale are read again", async (t) => {
  let asked = 0;
  const answer = async (body) => {
    if (body) return { topics: ["a"], cursor: "e-7", stale: [] };
    asked += 1;
    return { count: 1, users: [{ id: "1", name: `Ann ${asked}`, state: "viewing" }] };
  };
  const page = await tab(t, answer, { connectionId: "c1" });
  const shown = [];
  page.open(grant("a")).presence(({ users }) => shown.push(users[0].name));
  await turns();
  page.handlers["*"]({ event: "reset", data: "{}" }); // what came meanwhile is not replayed
  await turns();
  assert.deepEqual(shown, ["Ann 1", "Ann 2"]);
});
