/** Topics of polls: which grants their query has room for, and what the others learn. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { oldest, UNKNOWN } from "../../client/grants.js";
import { createTopics } from "../../client/topics.js";

const BASE = new URL("http://notifier.test/");
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const iat = Math.floor(Date.now() / 1000);

/** A grant with so many characters that the query of a poll, which has 6 KiB, has room for two. */
const large = (name) => `${part({})}.${part({ topics: [name], iat, exp: iat + 300, text: "x".repeat(2000) })}.x`;

const turns = async () => {
  for (let n = 0; n < 20; n += 1) await new Promise(setImmediate);
};

/** A tab whose browser polls; `stale` has what it was told. */
async function polling(t, key, leads) {
  const handlers = {};
  const stale = [];
  const notifier = { on: (name, handler) => (handlers[name] = handler), connectionState: { state: "polling" } };
  const polls = { url: new URL("/v1/poll", BASE) };
  const connection = { leads, state: "live" };
  const findKey = async () => key;
  const topics = await createTopics(notifier, connection, { cursor: "e-5" }, BASE, polls, null, findKey, () => "");
  t.after(() => handlers.state("closed", { final: true }));
  const open = (grant, options) => topics.open(grant, { onStale: (names) => stale.push(...names), ...options });
  return { open, stale, handlers, grants: () => polls.url.searchParams.getAll("grant") };
}

test("polls ask for the grants that fit into 6 KiB, and a part whose grant does not is stale once a minute", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { open, stale, grants } = await polling(t, "p1", true);
  const tokens = ["a", "b", "c", "d"].map(large);
  const [, , third] = tokens.slice(0, 3).map((token) => open(token));
  assert.deepEqual(grants(), tokens.slice(0, 2));
  assert.deepEqual(stale, ["a", "b", "c"]);
  open(large("a").replace(/x$/, "y")); // fetched again: a new part with the next grant
  open(tokens[3]);
  open(large("c")); // the part that was fetched again takes the place of the other
  third.close();
  assert.deepEqual(stale, ["a", "b", "c"]);
  t.mock.timers.tick(60_000);
  assert.deepEqual(stale.slice(3), ["c", "d"]);
  t.mock.timers.tick(60_000);
  assert.deepEqual(stale.slice(5), ["c", "d"]);
});

test("a following tab hears what the leader's query has room for, and is told of it once", {
  timeout: 20_000,
}, async (t) => {
  const leader = await polling(t, "p2", true);
  const follower = await polling(t, "p2", false);
  const own = leader.open(large("a"));
  leader.open(large("b"));
  const part = follower.open(large("c"));
  while (!follower.stale.length && !t.signal.aborted) await turns();
  assert.deepEqual(leader.grants(), ["a", "b"].map(large));
  own.close();
  while (follower.stale.length < 2 && !t.signal.aborted) await turns();
  assert.deepEqual(leader.grants(), ["b", "c"].map(large));
  follower.open(large("c").replace(/x$/, "y")); // fetched again, with its next grant
  part.close();
  await turns();
  assert.deepEqual(follower.stale, ["c", "c"]);
});

test("after a leader that polls has gone, the next one asks for the topics of the other tabs", {
  timeout: 20_000,
}, async (t) => {
  const follower = await polling(t, "p3", false);
  follower.open(large("a"));
  await turns();
  const leader = await polling(t, "p3", true);
  leader.handlers.hello({});
  follower.handlers.hello({}); // the leader passes it on
  while (!follower.stale.length && !t.signal.aborted) await turns();
  assert.deepEqual([leader.grants(), follower.stale], [[large("a")], ["a"]]);
});

test("a grant of which an answer says that it has ended is renewed", async (t) => {
  const { open, grants, handlers } = await polling(t, "p4", true);
  open(large("a"), { renew: async () => ({ grants: [large("a").replace(/x$/, "y")] }) });
  handlers.topics({ left: ["a"], reason: "expired" });
  assert.deepEqual(grants(), []);
  await turns();
  assert.deepEqual(grants(), [large("a").replace(/x$/, "y")]);
});

test("a grant of half a minute is renewed at four fifths of it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1000 * iat });
  const { open } = await polling(t, "p5", true);
  let asked = 0;
  const token = `${part({})}.${part({ topics: ["a"], iat, exp: iat + 30 })}.x`;
  const renew = async () => {
    asked += 1;
    return { grants: [] };
  };
  open(token, { renew });
  t.mock.timers.tick(23_000);
  assert.equal(asked, 0);
  t.mock.timers.tick(1000);
  assert.equal(asked, 1);
});

test("a part of the page without a cursor is older than one with a cursor, whichever comes first", () => {
  for (const unknown of ["", UNKNOWN])
    assert.deepEqual([oldest("e-5", unknown), oldest(unknown, "e-5")], [UNKNOWN, UNKNOWN]);
  assert.deepEqual([oldest("e-5", "e-12"), oldest("e-5", "d-1")], ["e-5", UNKNOWN]);
});
