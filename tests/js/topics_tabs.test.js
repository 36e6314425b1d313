/** Topics of a tab whose stream another tab has: the two talk over a channel. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { createTopics } from "../../client/topics.js";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = Math.floor(Date.now() / 1000);
const GRANT = `${part({})}.${part({ topics: ["order:1"], iat: now, exp: now + 300 })}.x`;
const BASE = new URL("http://notifier.test/");

/** The topics of one tab; `answer(n)` answers its n-th call. */
async function tab(t, key, connection, { connectionId = "", answer = () => ({ status: 200 }) } = {}) {
  const handlers = {};
  const calls = [];
  const notifier = { on: (name, handler) => (handlers[name] = handler), connectionState: { state: "live" } };
  const request = async (_, { body }) => {
    calls.push(JSON.parse(body));
    const { status } = answer(calls.length);
    return new Response(JSON.stringify({ topics: ["order:1"], cursor: "e-7", stale: [] }), { status });
  };
  const position = { cursor: "e-5" };
  const findKey = async () => key;
  const poll = new URL("/v1/poll", BASE);
  const topics = await createTopics(notifier, connection, position, BASE, poll, request, findKey, connectionId);
  t.after(() => handlers.state("closed", { final: true }));
  return { topics, calls };
}

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
