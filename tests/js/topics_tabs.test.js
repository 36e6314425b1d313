/** Topics of tabs that share one stream, which the leading tab has: they talk over a channel. */

import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { createTopics } from "../../client/topics.js";
import { takePart } from "./tabs.js";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = Math.floor(Date.now() / 1000);
const GRANT = `${part({})}.${part({ topics: ["order:1"], iat: now, exp: now + 300 })}.x`;
const SEEN = `${part({})}.${part({ topics: ["order:1"], iat: now, exp: now + 300, presence: true })}.x`;
const BASE = new URL("http://notifier.test/");

/** The topics of one tab; `answer(n)` answers its n-th call. */
async function tab(
  t,
  key,
  connection,
  { connectionId = "", findId = () => connectionId, answer = () => ({}), state = "open" } = {},
) {
  const handlers = {};
  const calls = [];
  const notifier = { on: (name, handler) => (handlers[name] = handler), connectionState: { state } };
  const request = async (_, { body }) => {
    calls.push(JSON.parse(body));
    const { status = 200, ...answered } = await answer(calls.length);
    return new Response(JSON.stringify({ topics: ["order:1"], cursor: "e-7", stale: [], ...answered }), { status });
  };
  const position = { cursor: "e-5" };
  const polls = { url: new URL("/v1/poll", BASE), ended: 0, asking: { abort: () => polls.ended++ } };
  const begun = Promise.resolve(key).then((name) => takePart(t, connection, name));
  const topics = await createTopics(notifier, connection, position, BASE, polls, request, begun, findId);
  t.after(() => handlers.state("closed", { final: true }));
  return { topics, calls, polls, handlers, heard: () => calls.some(({ add }) => add) };
}

/** The leading tab and another one; both show the topic and hear it. */
async function pair(t, key, answer) {
  const first = { leads: true, state: "live" };
  const second = { leads: false, state: "live" };
  const leader = await tab(t, key, first, { connectionId: "c1", answer });
  const follower = await tab(t, key, second, { answer });
  const stale = [];
  const handles = [leader, follower].map(({ topics }, n) =>
    topics.open(GRANT, { onStale: (names) => stale.push([n, names]) }),
  );
  while (!leader.heard() || !follower.heard()) await sleep(5);
  await sleep(0);
  return { leader, follower, first, second, handles, stale };
}

const removed = ({ calls }) => calls.flatMap(({ remove = [] }) => remove);

test("a stream that another tab has and that does not find itself is asked again after a pause", async (t) => {
  await tab(t, "k1", { leads: true, state: "live" }, { connectionId: "c1" });
  const follower = await tab(t, "k1", { leads: false, state: "live" }, { answer: () => ({ status: 404 }) });
  follower.topics.open(GRANT, {});
  while (!follower.calls.length) await sleep(5);
  await sleep(300);
  assert.deepEqual(
    follower.calls.map(({ connection }) => connection),
    ["c1"],
  );
});

test("a stream of another tab that took over is joined at once", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] }); // so no pause ends
  const turn = () => new Promise(setImmediate);
  const first = { leads: true, state: "live" };
  await tab(t, "k2", first, { connectionId: "c1" });
  const answer = (n) => ({ status: n === 1 ? 404 : 200 });
  const follower = await tab(t, "k2", { leads: false, state: "live" }, { answer });
  follower.topics.open(GRANT, {});
  while (!follower.calls.length) await turn();
  first.leads = false;
  const channel = new BroadcastChannel("k2 topics");
  channel.postMessage({ connection: "c2" }); // of the tab that took over
  channel.close();
  while (follower.calls.length < 2) await turn();
  assert.equal(follower.calls[1].connection, "c2");
});

test("a tab without topics that was away, and has named its own stream, asks for the present one", {
  timeout: 20_000,
}, async (t) => {
  await tab(t, "k18", { leads: true, state: "live" }, { connectionId: "c2" });
  const away = await tab(t, "k18", { leads: false, state: "live" }, { connectionId: "c1" });
  const follower = await tab(t, "k18", { leads: false, state: "live" });
  const isOn = async (id) => {
    while (follower.calls.at(-1)?.connection !== id) await sleep(5);
  };
  follower.topics.open(GRANT, {});
  await isOn("c2");
  const channel = new BroadcastChannel("k18 topics");
  channel.postMessage({ connection: "c1" }); // of the tab that was away, before it knew
  channel.close();
  await isOn("c1");
  away.handlers.reset({ reason: "shared" });
  await isOn("c2");
});

test("a topic that another tab shows stays on the stream when the leader closes it, and ends with the last tab", async (t) => {
  const { leader, follower, handles } = await pair(t, "k3");
  handles[0].close();
  await sleep(600); // the leader asks the other tabs within 300 ms
  assert.deepEqual(removed(leader), []);
  handles[1].close();
  while (!removed(leader).length) await sleep(5);
  assert.deepEqual([removed(leader), removed(follower)], [["order:1"], []]);
});

test("a topic ends on the stream when the connection of the last tab that shows it is closed", async (t) => {
  const { leader, follower, handles } = await pair(t, "k4");
  handles[0].close();
  await sleep(600);
  follower.handlers.state("closed", { final: true });
  while (!removed(leader).length) await sleep(5);
  assert.deepEqual(removed(leader), ["order:1"]);
});

test("a topic of a tab that is loaded again stays on the stream of the leader, which does not show it", {
  timeout: 20_000,
}, async (t) => {
  const leader = await tab(t, "k10", { leads: true, state: "live" }, { connectionId: "c1" });
  const old = await tab(t, "k10", { leads: false, state: "live" });
  old.topics.open(GRANT, {});
  while (!old.heard()) await sleep(5);
  const channel = new BroadcastChannel("k10 topics");
  t.after(() => channel.close());
  const heard = new EventEmitter();
  channel.onmessage = ({ data }) => data.left && heard.emit("left");
  const asked = once(heard, "left");
  old.handlers.state("closed", { final: true });
  await asked; // within 300 ms of the leader's question
  const next = await tab(t, "k10", { leads: false, state: "live" });
  next.topics.open(GRANT, {});
  await sleep(600);
  assert.deepEqual([next.heard(), removed(leader)], [true, []]);
});

test("a tab that shows a topic which the leader ends meanwhile joins it again, with the cursor of its last join", {
  timeout: 20_000,
}, async (t) => {
  const { follower } = await pair(t, "k11");
  follower.handlers["*"]({ event: "order.paid", id: "e-9", data: "{}" }); // the stream may not hear the topic any more
  const leader = new BroadcastChannel("k11 topics");
  t.after(() => leader.close());
  leader.postMessage({ removed: ["order:1"] });
  while (follower.calls.length < 2 && !t.signal.aborted) await sleep(5);
  assert.deepEqual(follower.calls[1], { connection: "c1", add: [GRANT], since: "e-7" });
});

test("the leader's end removes nothing; after it each tab joins the next stream with its last complete cursor", async (t) => {
  let isNext = false;
  const { leader, follower, first, second, stale } = await pair(t, "k5", () => ({
    stale: isNext ? ["order:1"] : [],
  }));
  const third = await tab(
    t,
    "k5",
    { leads: false, state: "live" },
    { connectionId: "c1", answer: () => ({ stale: ["order:1"] }) },
  );
  const told = [];
  third.topics.open(GRANT, { since: "e-4", onStale: (names) => told.push(names) });
  while (!third.heard()) await sleep(5);
  await sleep(0); // it reads the answer
  for (const { handlers } of [follower, third])
    handlers["*"]({ event: "order.paid", id: "e-9", data: JSON.stringify({ topic: "order:1" }) });
  leader.handlers.state("closed", { final: true });
  Object.assign(first, { leads: false });
  Object.assign(second, { leads: true });
  isNext = true;
  told.length = 0;
  for (const { handlers } of [follower, third]) handlers.hello({ connection: "c2" }); // the leader posts it to the others
  while (!stale.length || !told.length) await sleep(5);
  for (const { calls } of [follower, third]) {
    const { connection, since } = calls.at(-1);
    assert.deepEqual([connection, since], ["c2", "e-9"]);
  }
  assert.deepEqual([stale, told], [[[1, ["order:1"]]], [["order:1"]]]);
  await sleep(600);
  assert.deepEqual([leader, follower, third].flatMap(removed), []);
});

test("a topic that the stream has left is not taken for heard by an answer that was on its way", {
  timeout: 20_000,
}, async (t) => {
  const arrived = new EventEmitter();
  const answer = async (n) => {
    if (n === 1) await once(arrived, "now");
    return {};
  };
  const leader = { leads: true, state: "live" };
  const { topics, calls, handlers } = await tab(t, "k6", leader, { connectionId: "c1", answer });
  topics.open(GRANT, { since: "e-5" });
  while (!calls.length) await sleep(5);
  handlers.topics({ left: ["order:1"] });
  arrived.emit("now");
  while (calls.length < 2) await sleep(5);
  assert.deepEqual(
    calls.map(({ since }) => since),
    ["e-5", "e-5"],
  );
});

test("an answer that a stream is not there says nothing of the one that has opened meanwhile", {
  timeout: 20_000,
}, async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] }); // so no pause ends
  const opened = new EventEmitter();
  const answer = async (n) => {
    if (n === 1) await once(opened, "next");
    return { status: n === 1 ? 404 : 200 };
  };
  const { topics, calls, handlers } = await tab(
    t,
    "k18",
    { leads: false, state: "live" },
    { connectionId: "c1", answer },
  );
  topics.open(GRANT, {});
  while (!calls.length) await new Promise(setImmediate);
  handlers.hello({ connection: "c2" });
  opened.emit("next");
  while (calls.length < 2 && !t.signal.aborted) await new Promise(setImmediate);
  assert.equal(calls[1].connection, "c2");
});

test("what a leader that had hung says late of its former stream is not believed", { timeout: 20_000 }, async (t) => {
  const { topics, calls, handlers } = await tab(t, "k19", { leads: false, state: "live" }, { connectionId: "c1" });
  handlers.hello({ connection: "c2" }); // of the tab that took over
  const channel = new BroadcastChannel("k19 topics");
  t.after(() => channel.close());
  const answered = once(channel, "message");
  channel.postMessage({ connection: "c1" });
  channel.postMessage({ left: [] }); // the tab has read both when it answers
  await answered;
  topics.open(GRANT, {});
  while (!calls.length) await sleep(5);
  assert.equal(calls[0].connection, "c2");
});

test("a stream that opened while a tab asked for its user is joined", { timeout: 20_000 }, async (t) => {
  const known = new EventEmitter();
  const key = once(known, "user").then(() => "k7");
  let connectionId = "c1";
  const opening = tab(t, key, { leads: true, state: "live" }, { findId: () => connectionId });
  connectionId = "c2"; // its hello came
  known.emit("user");
  const { topics, calls } = await opening;
  topics.open(GRANT, {});
  while (!calls.length) await sleep(5);
  assert.equal(calls[0].connection, "c2");
});

test("what a follower shows is stale from the moment at which the leader's polls hear it", {
  timeout: 20_000,
}, async (t) => {
  const leader = await tab(t, "k8", { leads: true, state: "live" }, { state: "polling" });
  const follower = await tab(t, "k8", { leads: false, state: "live" }, { state: "polling" });
  const polled = [];
  follower.topics.open(GRANT, { onStale: () => polled.push(leader.polls.ended) });
  while (!polled.includes(1)) await sleep(5);
  assert.ok(leader.polls.url.searchParams.has("grant", GRANT));
});

test("grants of other tabs that have ended leave the polls' room to those that have not", {
  timeout: 20_000,
}, async (t) => {
  const { polls } = await tab(t, "k9", { leads: true, state: "live" }, { state: "polling" });
  const other = new BroadcastChannel("k9 topics");
  t.after(() => other.close());
  const ended = Array.from(
    { length: 20 },
    (_, n) => `${part({})}.${part({ topics: [`t:${n}`], iat: now, exp: now })}.x`,
  );
  other.postMessage({ grants: ended });
  other.postMessage({ grants: [GRANT] });
  while (!polls.url.searchParams.has("grant")) await sleep(5);
  await sleep(50);
  assert.deepEqual(polls.url.searchParams.getAll("grant"), [GRANT]);
});

test("a topic that the page's server denies one tab is joined again by the others", { timeout: 20_000 }, async (t) => {
  const leader = await tab(t, "k12", { leads: true, state: "live" }, { connectionId: "c1" });
  const follower = await tab(t, "k12", { leads: false, state: "live" });
  const due = `${part({})}.${part({ topics: ["order:1"], iat: now, exp: now + 61 })}.x`;
  const ended = [];
  leader.topics.open(due, {
    renew: async () => ({ grants: [], denied: ["order:1"] }),
    onEnded: (_, reason) => ended.push(reason),
  });
  follower.topics.open(GRANT, {});
  while (!leader.heard() || !follower.heard()) await sleep(5);
  leader.handlers.topics({ left: [] }); // it renews
  while (follower.calls.length < 2 && !t.signal.aborted) await sleep(5);
  assert.deepEqual([ended, removed(leader), follower.calls[1].add], [["denied"], ["order:1"], [GRANT]]);
});

/** A leading tab and two others: the first has the topic in a list, the other tabs show its user there. */
async function seenIn(t, key, ...tokens) {
  const tabs = [];
  for (const [n, token] of tokens.entries()) {
    tabs.push(await tab(t, key, { leads: n === 0, state: "live" }, { connectionId: n === 0 ? "c1" : "" }));
    tabs[n].handle = token && tabs[n].topics.open(token, {});
    while (token && !tabs[n].heard()) await sleep(5);
  }
  await sleep(0); // the last answer is read
  return tabs;
}

const added = ({ calls }) => calls.flatMap(({ add = [] }) => add);

test("the user is shown no longer where the last tab that shows the user goes, and another has the topic in a list", {
  timeout: 20_000,
}, async (t) => {
  const [leader, follower] = await seenIn(t, "k13", GRANT, SEEN);
  follower.handlers.state("closed", { final: true });
  while (added(leader).length < 2) await sleep(5);
  assert.deepEqual([removed(leader), added(leader)], [["order:1"], [GRANT, GRANT]]);
});

test("the user is shown no longer where a part of a following tab closes that alone shows the user", {
  timeout: 20_000,
}, async (t) => {
  const [leader, follower] = await seenIn(t, "k14", undefined, SEEN);
  follower.topics.open(GRANT, { since: "e-7" });
  follower.handle.close();
  while (added(follower).length < 2) await sleep(5);
  assert.deepEqual([removed(leader), added(follower)], [["order:1"], [SEEN, GRANT]]);
});

test("the leader's part that shows the user closes, and a following tab joins its list again", {
  timeout: 20_000,
}, async (t) => {
  const [leader, follower] = await seenIn(t, "k15", SEEN, GRANT);
  leader.handle.close();
  while (added(follower).length < 2) await sleep(5);
  assert.deepEqual([removed(leader), added(leader), added(follower)], [["order:1"], [SEEN], [GRANT, GRANT]]);
});

test("the user stays shown while one of the tabs shows the user, without a call", { timeout: 20_000 }, async (t) => {
  const [leader, second, third] = await seenIn(t, "k16", GRANT, SEEN, SEEN);
  second.handle.close();
  await sleep(600); // the leader asks the other tabs within 300 ms
  assert.deepEqual([leader, second, third].flatMap(removed), []);
  third.handle.close();
  while (!removed(leader).length) await sleep(5);
  assert.deepEqual(removed(leader), ["order:1"]);
});

test("a tab whose user is shown says its state again where the leader has ended the topic meanwhile", {
  timeout: 20_000,
}, async (t) => {
  const [, follower] = await seenIn(t, "k17", undefined, SEEN);
  follower.handle.state("editing");
  while (follower.calls.length < 2) await sleep(5);
  await sleep(0);
  const leader = new BroadcastChannel("k17 topics");
  t.after(() => leader.close());
  leader.postMessage({ removed: ["order:1"] });
  while (follower.calls.length < 3) await sleep(5);
  assert.deepEqual(follower.calls[2].state, { "order:1": "editing" });
});
