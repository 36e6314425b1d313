/** What the service does not let a page hear: no topic becomes silent. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../../client/notifier.js";
import { grant, iat, part, stream, tab, turns } from "./refusals.js";
import { collector, frame } from "./server.js";
import { serveTopics, service, grant as topicGrant, topicsOf } from "./topic_service.js";

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

test("of many topics without room few calls are made and one warning, and what the stream has of another tab is heard", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const warn = t.mock.method(console, "warn", () => {});
  const { heard, tries, answer } = stream(10);
  heard.add("t39"); // of another tab
  const { open, told } = await tab(t, answer, { connectionId: "c1" });
  for (let n = 0; n < 40; n += 1) open(grant(`t${n}`));
  await turns();
  assert.deepEqual([heard.size, told.length, warn.mock.callCount()], [10, 30, 1]);
  assert.ok(!told.includes("stale t39"));
  assert.ok(tries.length <= 13, `${tries.length} calls`);
  tries.length = 0;
  t.mock.timers.tick(60_000);
  await turns();
  assert.deepEqual([told.length, warn.mock.callCount()], [60, 1]);
  assert.ok(tries.length <= 2, `${tries.length} calls`);
});

test("a grant that needs less room than one without room is heard", async (t) => {
  t.mock.method(console, "warn", () => {});
  const { heard, answer } = stream(3);
  const { open, told } = await tab(t, answer, { connectionId: "c1" });
  const both = `${part({})}.${part({ topics: ["c", "d"], iat, exp: iat + 300 })}.x`;
  for (const token of [grant("a"), grant("b"), both, grant("e")]) open(token);
  await turns();
  assert.deepEqual(
    [[...heard], told],
    [
      ["a", "b", "e"],
      ["stale c", "stale d"],
    ],
  );
});

test("a grant that is refused once and renewed is no warning", async (t) => {
  const warn = t.mock.method(console, "warn", () => {});
  const answer = ({ add }) =>
    add.includes(grant("a")) ? { status: 403 } : { topics: topicsOf({ add }), cursor: "e-7", stale: [] };
  const { open, told } = await tab(t, answer, { connectionId: "c1" });
  open(grant("a"), { renew: async () => ({ grants: [grant("a", 1)] }) });
  await turns();
  assert.deepEqual([told, warn.mock.callCount()], [[], 0]);
});

test("a part that opens a topic while the stream leaves it, as its old grant was denied, is heard", async (t) => {
  const { heard, answer } = stream(10);
  let leave;
  const left = new Promise((resolve) => (leave = resolve));
  const page = await tab(
    t,
    async (body) => {
      if (!body.remove) return answer(body);
      await left;
      return answer(body);
    },
    { connectionId: "c1" },
  );
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1000 * iat });
  page.open(grant("a"), { renew: async () => ({ grants: [], denied: ["a"] }) });
  await turns();
  t.mock.timers.tick(240_000);
  await turns();
  page.open(grant("a", 300));
  await turns();
  leave();
  await turns();
  assert.deepEqual([page.told.at(0), [...heard]], ["denied a", ["a"]]);
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

test("the end of the connection for good ends its topics, and those that are opened later", async (t) => {
  const { url, streams } = await serveTopics(t, () => ({}));
  let token = "a";
  const notifier = connect(url, { getToken: () => token });
  t.after(() => notifier.close());
  const ended = collector();
  const onEnded = (names, reason) => ended.add([reason, ...names]);
  await notifier.topic(topicGrant(["order:1", "order:2"]), { since: "e-5", onEnded });
  await streams.reached(1);
  token = null; // the user has signed out
  streams.values[0].write(frame("bye", { reason: "revoked", retry_ms: 0 }));
  assert.deepEqual(await ended.reached(1), [["refused", "order:1", "order:2"]]);
  assert.equal(notifier.connectionState.state, "refused");
  await notifier.topic(topicGrant(["order:3"]), { since: "e-5", onEnded });
  assert.deepEqual(await ended.reached(2), [
    ["refused", "order:1", "order:2"],
    ["refused", "order:3"],
  ]);
});

test("a page that closes its connection itself is not told that its topics have ended", async (t) => {
  const { notifier } = await service(t, () => ({}));
  const ended = [];
  await notifier.topic(topicGrant(["order:1"]), { since: "e-5", onEnded: (names) => ended.push(names) });
  notifier.close();
  assert.deepEqual([notifier.state, ended], ["offline", []]);
});
