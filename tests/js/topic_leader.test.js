/** Whole clients of one browser, of which one has the stream. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { cpSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { connect } from "../../client/notifier.js";
import { collector, serve, stream } from "./server.js";
import { provideLocks } from "./tabs.js";
import { grant, serveTopics } from "./topic_service.js";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const TOKEN = `${part({})}.${part({ sub: "7" })}.x`;
const keyOf = (url) => `notifier ${url}/ ["7",null]`;

provideLocks();

/** Tabs that connect one after the other. */
async function openTabs(t, url, ...options) {
  const tabs = [];
  for (const more of options) {
    const hello = collector();
    const tab = connect(url, { token: TOKEN, ...more, onHello: hello.add });
    t.after(() => tab.close());
    tabs.push(tab);
    await hello.reached(1);
  }
  return tabs;
}

/** The events of a window. */
function providePage(t) {
  const page = new EventTarget();
  globalThis.addEventListener = (...args) => page.addEventListener(...args);
  t.after(() => delete globalThis.addEventListener);
  return (type, more = {}) => page.dispatchEvent(Object.assign(new Event(type), more));
}

test("a leader that shows no topic answers a tab that opens one", { timeout: 20_000 }, async (t) => {
  const { url, changes, streams } = await serveTopics(t, () => ({ stale: ["order:1"] }));
  const [, follower] = await openTabs(t, url, {}, {});
  const stale = collector();
  const token = grant(["order:1"]);
  await follower.topic(token, { since: "e-1", onStale: stale.add });
  assert.deepEqual(await changes.reached(1), [{ connection: "c1", add: [token], since: "e-1" }]);
  assert.deepEqual(await stale.reached(1), [["order:1"]]);
  assert.equal(streams.values.length, 1);
});

test("what a tab says to a leader that shows no topic is not lost while that loads its module", {
  timeout: 20_000,
}, async (t) => {
  const { url, changes } = await serveTopics(t, () => ({}));
  await openTabs(t, url, {});
  const follower = new BroadcastChannel(`${keyOf(url)} topics`);
  t.after(() => follower.close());
  follower.postMessage({ left: ["order:1"], hidden: [], idle: [] });
  assert.deepEqual(await changes.reached(1), [{ connection: "c1", remove: ["order:1"] }]);
});

test("a leader whose module of topics does not load answers the others once it does", {
  timeout: 60_000,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "notifier-late-"));
  t.after(() => rmSync(folder, { recursive: true }));
  cpSync(fileURLToPath(new URL("../../client", import.meta.url)), folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{"type": "module"}');
  renameSync(join(folder, "topics.js"), join(folder, "late.js"));
  const { connect: connectLate } = await import(join(folder, "notifier.js"));
  const { url, changes } = await serveTopics(t, () => ({}));
  const hello = collector();
  const leader = connectLate(url, { token: TOKEN, onHello: hello.add });
  t.after(() => leader.close());
  await hello.reached(1);
  const [follower] = await openTabs(t, url, {});
  const channel = new BroadcastChannel(`${keyOf(url)} topics`);
  t.after(() => channel.close());
  const asked = once(channel, "message");
  const token = grant(["order:1"]);
  await follower.topic(token, { since: "e-1" });
  await asked;
  await assert.rejects(leader.topic(token));
  renameSync(join(folder, "late.js"), join(folder, "topics.js"));
  assert.deepEqual(await changes.reached(1), [{ connection: "c1", add: [token], since: "e-1" }]);
});

test("a tab that shares with no other ends a topic at once, with one call", { timeout: 20_000 }, async (t) => {
  const { url, changes } = await serveTopics(t, () => ({}));
  const [tab] = await openTabs(t, url, { token: "opaque" });
  const handle = await tab.topic(grant(["order:1"], { presence: true }), { since: "e-5" });
  handle.state("editing");
  await tab.topic(grant(["order:2"]), { since: "e-5" });
  await changes.reached(3); // the state is the stream's
  handle.close();
  const [, , , ended] = await changes.reached(4);
  assert.deepEqual(ended, { connection: "c1", remove: ["order:1"] });
});

test("a tab that did not know its user when it connected does not answer the tabs that share", {
  timeout: 20_000,
}, async (t) => {
  const { url, changes } = await serveTopics(t, () => ({}));
  let calls = 0;
  const getToken = async () => {
    calls += 1;
    if (calls === 1) throw new Error("the page's server is away");
    return TOKEN;
  };
  const [alone, leader, follower] = await openTabs(t, url, { token: undefined, getToken }, {}, {});
  await leader.topic(grant(["order:1"]), { since: "e-5" });
  await alone.topic(grant(["order:2"]), { since: "e-5" });
  await changes.reached(2);
  for (const n of [3, 4]) {
    await follower.topic(grant([`order:${n}`]), { since: "e-5" });
    await changes.reached(n);
  }
  assert.deepEqual(
    changes.values.map(({ connection }) => connection),
    ["c2", "c1", "c2", "c2"],
  );
});

test("a tab that takes over from one whose stream was open does not look live before it has its own", {
  timeout: 20_000,
}, async (t) => {
  const { url } = await serveTopics(t, () => ({}));
  const asked = collector();
  const silent = (target, init) => {
    if (target.pathname !== "/v1/stream") return fetch(target, init);
    asked.add(target);
    return new Promise(() => {});
  };
  const [leader, follower] = await openTabs(t, url, {}, { fetch: silent });
  assert.equal(follower.connectionState.state, "open");
  leader.close();
  await asked.reached(1);
  const { state, reason } = follower.connectionState;
  assert.deepEqual([state, reason], ["reconnecting", "handover"]);
});

test("a page from the back/forward cache does not look live before its stream has answered", {
  timeout: 20_000,
}, async (t) => {
  const happens = providePage(t);
  const server = await serve(t, stream(), () => {});
  const [tab] = await openTabs(t, server.url, {});
  happens("pagehide", { persisted: true });
  happens("pageshow", { persisted: true });
  await server.nthRequest(2);
  const { state, reason } = tab.connectionState;
  assert.deepEqual([state, reason], ["reconnecting", "handover"]);
});

test("a browser that refuses channels has a stream for each tab", { timeout: 20_000 }, async (t) => {
  const { url, streams } = await serveTopics(t, () => ({}));
  const { BroadcastChannel } = globalThis;
  globalThis.BroadcastChannel = class {
    constructor() {
      throw new DOMException("The operation is insecure", "SecurityError"); // Firefox, where cookies are blocked
    }
  };
  t.after(() => {
    globalThis.BroadcastChannel = BroadcastChannel;
  });
  await openTabs(t, url, {}, {});
  await streams.reached(2);
});
