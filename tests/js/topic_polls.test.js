/** Topics of polls: which grants their query has room for, and what the others learn. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { oldest, UNKNOWN } from "../../client/grants.js";
import { createTopics } from "../../client/topics.js";
import { collector } from "./server.js";
import { takePart } from "./tabs.js";

const BASE = new URL("http://notifier.test/");
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const iat = Math.floor(Date.now() / 1000);

/** A grant with so many characters that the query of a poll, which has 6 KiB, has room for two. */
const large = (name) => `${part({})}.${part({ topics: [name], iat, exp: iat + 300, text: "x".repeat(2000) })}.x`;

const turns = async () => {
  for (let n = 0; n < 20; n += 1) await new Promise(setImmediate);
};

/** A grant of an ordinary length; `n` is how often it was renewed. */
const small = (name, n = 0) => `${part({})}.${part({ topics: [name], iat, exp: iat + 300 + n })}.x`;

/** A tab whose browser polls; `stale` has what it was told. */
async function polling(t, key, leads, state = "polling") {
  const handlers = {};
  const stale = [];
  const notifier = { on: (name, handler) => (handlers[name] = handler), connectionState: { state } };
  const polls = { url: new URL("/v1/poll", BASE) };
  const connection = { leads, state: "live" };
  takePart(t, connection, key);
  const topics = await createTopics(notifier, connection, { cursor: "e-5" }, BASE, polls, null, null, () => "");
  t.after(() => handlers.state("closed", { final: true }));
  const open = (grant, options) => topics.open(grant, { onStale: (names) => stale.push(...names), ...options });
  return { open, stale, handlers, notifier, grants: () => polls.url.searchParams.getAll("grant") };
}

/** Another tab, as its messages: `met()` waits until a following tab has read all of them; `answer(message)` is posted. */
function otherTab(t, key, answer = () => undefined) {
  const channel = new BroadcastChannel(`${key} topics`);
  t.after(() => channel.close());
  const seen = collector();
  channel.onmessage = ({ data }) => {
    const message = answer(data);
    if (message) channel.postMessage(message);
    seen.add(data);
  };
  const count = (/** @type {string} */ what) => seen.values.filter((message) => what in message).length;
  const reach = async (what, most) => {
    while (count(what) < most) await seen.reached(seen.values.length + 1);
  };
  const met = async () => {
    const before = count("kept");
    channel.postMessage({ left: [] });
    await reach("kept", before + 1);
  };
  return { post: (message) => channel.postMessage(message), count, reach, met };
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

test("the topics of a following tab that fit into the leader's query are heard, and become stale once", {
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

test("with polls a state makes nothing stale, since they have none", async (t) => {
  const { open, stale } = await polling(t, "p6", true);
  let handle;
  const fetchPart = () => {
    const [old, n] = [handle, stale.length];
    handle = open(small("a", n), { onStale });
    old?.close();
  };
  const onStale = (names) => {
    stale.push(...names);
    if (stale.length < 5) queueMicrotask(fetchPart);
  };
  fetchPart();
  await turns();
  open(small("a")).state("editing");
  await turns();
  assert.deepEqual(stale, ["a"]);
});

test("a grant of another tab that has ended leaves the leader's query, and is not added again when a tab asks", {
  timeout: 20_000,
}, async (t) => {
  const leader = await polling(t, "p7", true);
  const follower = await polling(t, "p7", false);
  const renew = async () => Promise.reject(new Error("away"));
  follower.open(small("a"), { renew });
  while (!leader.grants().length && !t.signal.aborted) await turns();
  for (const { handlers } of [leader, follower]) handlers.topics({ left: ["a"], reason: "expired" });
  assert.deepEqual(leader.grants(), []);
  const other = otherTab(t, "p7");
  other.post({ ask: true, connection: "" }); // a leader
  await other.reach("connection", 1); // of the present one, which has no grant left
  follower.open(small("b"));
  while (!leader.grants().includes(small("b")) && !t.signal.aborted) await turns();
  assert.deepEqual(leader.grants(), [small("b")]);
});

test("a tab that asks is answered by the leader alone, and a leader by every tab that shows topics", {
  timeout: 20_000,
}, async (t) => {
  const tabs = [];
  for (let n = 0; n < 20; n += 1) tabs.push(await polling(t, "p12", n === 0));
  for (const { open } of tabs.slice(0, 12)) open(small("a"));
  await turns();
  const other = otherTab(t, "p12");
  const answers = async (message, count) => {
    const before = ["grants", "kept"].map(other.count);
    for (const each of [message, { left: [] }]) other.post(each); // to the second every follower answers, after the first
    await other.reach("kept", before[1] + 2 * 19); // the leader asks them, too
    await other.reach("connection", count);
    return other.count("grants") - before[0];
  };
  assert.equal(await answers({ ask: true, grants: [] }, 1), 0);
  assert.equal(await answers({ ask: true, grants: [], connection: "" }, 2), 12);
});

test("a tab's topics become stale when its state becomes polling, if the leader named them before", async (t) => {
  const other = otherTab(t, "p8", ({ ask }) => ask && { polled: ["a"] });
  const { open, stale, notifier, handlers } = await polling(t, "p8", false, "connecting");
  open(small("a"), { since: "e-1" });
  await other.met(); // it has asked
  await other.met(); // it has read the answer
  assert.deepEqual(stale, []);
  notifier.connectionState.state = "polling";
  handlers.connectionState({ state: "polling" });
  await other.met();
  await other.met();
  assert.deepEqual(stale, ["a"]);
});

test("a new grant of which polls say that it has ended as well ends for good: no service is asked in a circle", async (t) => {
  const { open, grants, handlers } = await polling(t, "p9", true);
  const [ended, tokens] = [[], []];
  const renew = async () => {
    tokens.push(small("a", tokens.length + 1));
    return { grants: tokens.slice(-1) };
  };
  open(small("a"), { renew, onEnded: (...all) => ended.push(all) });
  for (let n = 1; n < 5; n += 1) {
    if (grants().length) handlers.topics({ left: ["a"], reason: "expired" });
    await turns();
  }
  assert.deepEqual([tokens.length, ended, grants()], [1, [[["a"], "refused"]], []]);
});

test("a renewal makes nothing stale while the browser polls", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1000 * iat });
  const { open, stale, grants } = await polling(t, "p10", true);
  open(small("a"), { renew: async () => ({ grants: [small("a", 300)] }) });
  t.mock.timers.tick(240_000);
  await turns();
  assert.deepEqual([grants(), stale], [[small("a", 300)], ["a"]]);
});

test("a leader of the version before, which says its grants instead of their topics, is understood", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { open, stale } = await polling(t, "p11", false);
  open(small("a"));
  const other = otherTab(t, "p11");
  other.post({ polled: [small("a")] });
  await other.met();
  t.mock.timers.tick(60_000); // a topic that is not heard is stale once a minute
  assert.deepEqual(stale, ["a"]);
});

test("a part of the page without a cursor is older than one with a cursor, whichever comes first", () => {
  for (const unknown of ["", UNKNOWN])
    assert.deepEqual([oldest("e-5", unknown), oldest(unknown, "e-5")], [UNKNOWN, UNKNOWN]);
  assert.deepEqual([oldest("e-5", "e-12"), oldest("e-5", "d-1")], ["e-5", UNKNOWN]);
});
