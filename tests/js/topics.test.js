/** Topics: joined with the cursor of the page, again at each stream, renewed, left. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { collector, frame } from "./server.js";
import { grant, service, topicsOf } from "./topic_service.js";

const DOCS = new URL("../../docs/live.md", import.meta.url);
test("a page's topics join the stream with the cursor of the page, and what is stale is told", async (t) => {
  const { notifier, changes } = await service(t, () => ({ stale: ["order:2"] }));
  const stale = collector();
  const token = grant(["order:1", "order:2"]);
  const handle = await notifier.topic(token, { since: "e-3", onStale: stale.add });
  assert.deepEqual(handle.topics, ["order:1", "order:2"]);
  assert.deepEqual(await changes.reached(1), [{ connection: "c1", add: [token], since: "e-3" }]);
  assert.deepEqual(await stale.reached(1), [["order:2"]]);
});

test("events reach the handles of their topic, and those that name none reach every handle", async (t) => {
  const { notifier, changes, streams } = await service(t, () => ({}));
  const seen = collector();
  for (const name of ["order:1", "order:2"]) {
    const handle = await notifier.topic(grant([name]), { since: "e-5" });
    handle.on("order.paid", (data) => seen.add(name, data.n));
    handle.on("message", (data) => seen.add(name, data.id));
  }
  while (changes.values.flatMap(({ add }) => add).length < 2) await changes.reached(changes.values.length + 1);
  const [stream] = streams.values;
  stream.write(frame("order.paid", { topic: "order:2", n: 1 }, "e-8") + frame("order.paid", { n: 2 }, "e-9"));
  stream.write(frame("message", { id: "m1", to: "topic:order:1" }, "e-10"));
  stream.write(frame("message", { id: "m2", to: "user:7" }, "e-11") + frame("order.paid", { n: 3 }, "e-12"));
  assert.deepEqual(await seen.reached(6), [
    ["order:2", 1],
    ["order:1", 2],
    ["order:2", 2],
    ["order:1", "m1"],
    ["order:1", 3],
    ["order:2", 3],
  ]);
});

test("each new stream is joined with the last cursor at which the page was complete, not with that of the replay", async (t) => {
  const { notifier, changes, streams } = await service(t, (_, n) => (n === 2 ? { stale: ["order:1"] } : {}));
  const stale = collector();
  const token = grant(["order:1"]);
  await notifier.topic(token, { since: "e-5", onStale: stale.add });
  await changes.reached(1);
  const seen = collector();
  notifier.on("note", seen.add);
  streams.values[0].write(frame("note", {}, "e-20"));
  await seen.reached(1);
  streams.values[0].end();
  await streams.reached(2);
  streams.values[1].write(frame("note", {}, "e-30"));
  assert.deepEqual((await changes.reached(2))[1], { connection: "c2", add: [token], since: "e-20" });
  assert.deepEqual(await stale.reached(1), [["order:1"]]);
});

test("an answer for a stream that has ended counts for nothing", async (t) => {
  t.mock.method(Math, "random", () => 0); // the new stream opens before the pause of the join ends
  const { notifier, changes, streams } = await service(t, (body) => (body.connection === "c1" ? { status: 404 } : {}));
  await notifier.topic(grant(["order:1"]), { since: "e-3" });
  await changes.reached(1);
  streams.values[0].end();
  await changes.reached(2);
  assert.deepEqual(
    changes.values.map(({ connection, since }) => [connection, since]),
    [
      ["c1", "e-3"],
      ["c2", "e-3"],
    ],
  );
});

test("a topic that an open stream was refused for a moment is added to it again", async (t) => {
  t.mock.method(Math, "random", () => 0); // the shortest pause
  const { notifier, changes } = await service(t, (_, n) => (n === 1 ? { status: 404 } : {}));
  await notifier.topic(grant(["order:1"]), { since: "e-3" });
  const [, again] = await changes.reached(2);
  assert.deepEqual([again.connection, again.since], ["c1", "e-3"]);
});

test("a topic is added again after an answer that was cut off", async (t) => {
  t.mock.method(Math, "random", () => 0); // the shortest pause
  const { notifier, changes } = await service(t, (_, n) => ({ isCut: n === 1 }));
  await notifier.topic(grant(["order:1"]), { since: "e-3" });
  const [, again] = await changes.reached(2);
  assert.deepEqual([again.connection, again.since], ["c1", "e-3"]);
});

test("a part of the page from before the service's history began anew is stale", async (t) => {
  const { notifier, changes } = await service(t, () => ({}));
  await notifier.topic(grant(["order:1"]), { since: "e-5" });
  await changes.reached(1);
  await notifier.topic(grant(["order:2"]), { since: "e-5" });
  await changes.reached(2); // the first answer was read
  await notifier.topic(grant(["order:1"]), { since: "d-900" });
  const [, , again] = await changes.reached(3);
  assert.equal(again.since, "-"); // as a cursor that is not known
});

test("a part of the page that was rendered before the topic's newest event is stale at once", async (t) => {
  const { notifier, changes, streams } = await service(t, () => ({}));
  const seen = collector();
  (await notifier.topic(grant(["order:1"]), { since: "e-5" })).on("changed", seen.add);
  await changes.reached(1);
  streams.values[0].write(frame("changed", { topic: "order:1" }, "e-9") + frame("note", { topic: "order:2" }, "e-12"));
  await seen.reached(1);
  const stale = collector();
  await notifier.topic(grant(["order:1"], { n: 1 }), { since: "e-8", onStale: stale.add });
  assert.deepEqual(stale.values, [["order:1"]]);
  await notifier.topic(grant(["order:1"], { n: 2 }), { since: "e-9", onStale: stale.add });
  assert.deepEqual(stale.values, [["order:1"]]);
  assert.equal(changes.values.length, 1);
  await notifier.topic(grant(["order:1"], { n: 3 }), { since: "f-9", onStale: stale.add });
  assert.deepEqual(stale.values, [["order:1"], ["order:1"]], "a cursor of another order");
});

test("a reset makes every topic stale", async (t) => {
  const { notifier, changes, streams } = await service(t, () => ({}));
  const stale = collector();
  const onStale = (names, why) => stale.add(names, why);
  await notifier.topic(grant(["order:1", "order:2"]), { since: "e-5", onStale });
  await changes.reached(1);
  streams.values[0].write(frame("reset", { reason: "history_trimmed", unread: 0, tasks: [] }, "e-9"));
  assert.deepEqual(await stale.reached(1), [[["order:1", "order:2"], "reset"]]);
});

test("a page from the back/forward cache joins again, and a closed connection listens no longer", async (t) => {
  const page = new EventTarget();
  const left = [];
  globalThis.addEventListener = (name, handler, options) => {
    page.addEventListener(name, handler, options);
    options.signal.addEventListener("abort", () => left.push(name));
  };
  t.after(() => delete globalThis.addEventListener);
  const { notifier, changes } = await service(t, () => ({}));
  const token = grant(["order:1"]);
  await notifier.topic(token, { since: "e-5" });
  await changes.reached(1);
  page.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  assert.deepEqual((await changes.reached(2))[1].add, [token]);
  notifier.close();
  assert.deepEqual(left, ["online", "offline", "pageshow", "visibilitychange"]);
});

test("a part of a page without cursors is fresh once its topic is heard", async (t) => {
  const { notifier, changes } = await service(t, (_, n) => (n === 1 ? { stale: ["order:1"] } : {}));
  const stale = collector();
  await notifier.topic(grant(["order:1"]), { since: "-", onStale: stale.add });
  await stale.reached(1);
  await notifier.topic(grant(["order:1"], { n: 1 }), { since: "-", onStale: stale.add });
  await notifier.topic(grant(["order:2"]), { since: "-" });
  await changes.reached(2);
  assert.deepEqual(
    changes.values[1].add.flatMap((each) => topicsOf({ add: [each] })),
    ["order:2"],
  );
  assert.equal(stale.values.length, 1);
});

test("a part without a cursor that is fetched again at once is stale once, not for ever", async (t) => {
  const { notifier, changes } = await service(t, ({ since }) => ({ stale: since === "-" ? ["order:1"] : [] }));
  const stale = collector();
  let handle;
  const fetchPart = async () => {
    const [old, n] = [handle, stale.values.length];
    handle = await notifier.topic(grant(["order:1"], { n, life: 300 + n }), { since: "", onStale });
    old?.close();
  };
  const onStale = (names) => {
    stale.add(names);
    if (stale.values.length < 5) void fetchPart();
  };
  await fetchPart();
  await stale.reached(1);
  await notifier.topic(grant(["order:2"]), { since: "e-7" });
  while (!changes.values.flatMap(topicsOf).includes("order:2")) await changes.reached(changes.values.length + 1);
  assert.deepEqual([stale.values, changes.values.map(({ since }) => since)], [[["order:1"]], ["-", "e-7"]]);
});

test("the example of docs/live.md", async (t) => {
  const { notifier, changes, streams } = await service(t, () => ({}));
  const [, code] = /^```js\n(.*?)^```$/ms.exec(readFileSync(DOCS, "utf8"));
  const names = { notifier, grant: grant(["order:1"]), cursor: "e-5", renew: async () => ({ grants: [] }) };
  const shown = collector();
  const wait = "await joined();";
  const source = code.replace("order.close();", `${wait} order.close();`);
  const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
  const joined = async () => {
    await changes.reached(1);
    streams.values[0].write(frame("order.paid", { topic: "order:1", sum: 12 }, "e-9"));
    await shown.reached(1);
  };
  const all = { ...names, joined, show: shown.add, reload: () => {} };
  await new AsyncFunction(...Object.keys(all), source)(...Object.values(all));
  assert.deepEqual(shown.values, [{ topic: "order:1", sum: 12 }]);
});

const ANN = { id: "1", name: "Ann", state: "viewing" };
const BOB = { id: "2", name: "Bob", state: "viewing" };

test("the example of docs/live.md for people: all at first, then by events, and read again where these do not fit", async (t) => {
  let people = { count: 1, users: [ANN] };
  const { notifier, changes, streams } = await service(
    t,
    () => ({}),
    () => people,
  );
  const [, [, example]] = [...readFileSync(DOCS, "utf8").matchAll(/^```js\n(.*?)^```$/gms)];
  const [drawn, shown] = [collector(), collector()];
  const order = await notifier.topic(grant(["order:1"]), { since: "e-5" });
  const document = { querySelector: () => ({ show: shown.add }) };
  new Function("order", "draw", "document", example)(order, drawn.add, document);
  assert.deepEqual(await drawn.reached(1), [[ANN]]);
  assert.equal(shown.values[0], order);
  while (!changes.values.some(({ state }) => state)) await changes.reached(changes.values.length + 1);
  assert.deepEqual(changes.values.at(-1).state, { "order:1": "editing" });
  const event = { topic: "order:1", left: [], changed: [], joined: [BOB], count: 2 };
  streams.values[0].write(frame("presence", event));
  assert.deepEqual((await drawn.reached(2))[1], [ANN, BOB]);
  people = { count: 1, users: [BOB] };
  streams.values[0].write(frame("presence", { ...event, joined: [], left: [ANN], count: 5 }));
  assert.deepEqual((await drawn.reached(3))[2], [BOB]);
  streams.values[0].end();
  await streams.reached(2);
  while (changes.values.filter(({ state }) => state).length < 2) await changes.reached(changes.values.length + 1);
  assert.deepEqual(
    [changes.values.at(-1).connection, changes.values.at(-1).state],
    ["c2", { "order:1": "editing" }],
    "the service learns the state on each new stream",
  );
});

test("a grant that shows its user replaces one that does not, and no renewal hides the user", async (t) => {
  const { notifier, changes } = await service(t, () => ({}));
  const [plain, seen] = [grant(["order:1"]), grant(["order:1"], { presence: true })];
  await notifier.topic(plain, { since: "e-5" });
  await notifier.topic(seen, { since: "e-5" });
  while (!changes.values.some(({ add }) => add?.includes(seen))) await changes.reached(changes.values.length + 1);
  const added = changes.values.length;
  await notifier.topic(grant(["order:1"], { life: 400 }), { since: "e-5" });
  await notifier.topic(grant(["order:2"]), { since: "e-5" });
  while (!changes.values.slice(added).some(({ add }) => add)) await changes.reached(changes.values.length + 1);
  const later = changes.values.slice(added).flatMap(({ add }) => topicsOf({ add }));
  assert.deepEqual(later, ["order:2"]);
});

test("a topic ends when its last handle is closed", async (t) => {
  const { notifier, changes } = await service(t, () => ({}));
  const first = await notifier.topic(grant(["order:1", "order:2"]), { since: "e-5" });
  const second = await notifier.topic(grant(["order:2"], { n: 1 }), { since: "e-5" });
  await changes.reached(1);
  first.close();
  const removals = () => changes.values.filter(({ remove }) => remove).map(({ remove }) => remove);
  while (removals().length < 1) await new Promise((resolve) => setTimeout(resolve, 10));
  second.close();
  while (removals().length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(removals(), [["order:1"], ["order:2"]]);
});

/** What the stream hears of a topic and who sees the user there, by the service's rules, after each of these changes. */
function shownBy(changes) {
  let [isHeard, isShown] = [false, false];
  for (const { add = [], remove = [] } of changes) {
    if (remove.includes("order:1")) isHeard = isShown = false;
    for (const token of add) {
      const { topics, presence } = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
      if (!topics.includes("order:1")) continue;
      isHeard = true;
      isShown ||= presence;
    }
  }
  return { isHeard, isShown };
}

test("where the part that shows the user is closed and others of its topic stay, the stream shows the user no longer", {
  timeout: 20_000,
}, async (t) => {
  const { notifier, changes } = await service(t, () => ({}));
  const [plain, seen] = [grant(["order:1"]), grant(["order:1"], { life: 400, presence: true })];
  await notifier.topic(plain, { since: "e-5" });
  const panel = await notifier.topic(seen, { since: "e-5" });
  panel.state("editing");
  while (!changes.values.some(({ state }) => state)) await changes.reached(changes.values.length + 1);
  const before = changes.values.length;
  const isOver = () => changes.values.slice(before).some(({ remove }) => remove) && shownBy(changes.values).isHeard;
  panel.close();
  while (!isOver()) await changes.reached(changes.values.length + 1);
  assert.deepEqual(shownBy(changes.values), { isHeard: true, isShown: false });
  const later = changes.values.slice(before);
  assert.ok(later.flatMap(({ add = [] }) => add).every((token) => token === plain));
  assert.ok(!JSON.stringify(later).includes("editing"));
});

test("of two parts that show the user the first that is closed changes nothing", { timeout: 20_000 }, async (t) => {
  const { notifier, changes } = await service(t, () => ({}));
  const [first, second] = [0, 1].map((n) => grant(["order:1"], { n, presence: true }));
  const panel = await notifier.topic(first, { since: "e-5" });
  await notifier.topic(second, { since: "e-5" });
  await changes.reached(1);
  panel.close();
  await notifier.topic(grant(["order:2"]), { since: "e-5" });
  while (!changes.values.some((body) => topicsOf(body).includes("order:2")))
    await changes.reached(changes.values.length + 1);
  assert.deepEqual(shownBy(changes.values), { isHeard: true, isShown: true });
});

test("a part that shows the user and is closed while it is joined leaves no trace of the user", {
  timeout: 20_000,
}, async (t) => {
  const begun = collector();
  const { notifier, changes } = await service(t, (body) => {
    begun.add(body);
    return { delayMs: topicsOf(body).length ? 300 : 0 };
  });
  const panel = await notifier.topic(grant(["order:1"], { presence: true }), { since: "e-5" });
  await begun.reached(1); // the call is under way
  panel.close();
  while (!changes.values.some(({ remove }) => remove) || !changes.values.some(({ add }) => add))
    await changes.reached(changes.values.length + 1);
  assert.deepEqual(shownBy(changes.values), { isHeard: false, isShown: false });
});

test("after the part that shows the user only the grant of the others is renewed, also one that has ended meanwhile", {
  timeout: 20_000,
}, async (t) => {
  const { notifier, changes } = await service(t, () => ({}));
  const [old, seen] = [grant(["order:1"], { life: 1 }), grant(["order:1"], { presence: true })];
  const next = grant(["order:1"], { n: 1 });
  const asked = collector();
  const renew = async (tokens) => {
    asked.add(tokens);
    return { grants: [next] };
  };
  await notifier.topic(old, { since: "e-5", renew });
  const panel = await notifier.topic(seen, { since: "e-5", renew });
  while (!changes.values.some(({ add }) => add?.includes(seen))) await changes.reached(changes.values.length + 1);
  await new Promise((resolve) => setTimeout(resolve, 1100)); // a second: the life of the first grant
  panel.close();
  while (!changes.values.some(({ add }) => add?.includes(next))) await changes.reached(changes.values.length + 1);
  assert.deepEqual(asked.values.at(-1), [old]);
  assert.deepEqual(shownBy(changes.values), { isHeard: true, isShown: false });
});

test("a part that shows the user, opened while its topic is being joined without, is joined too", {
  timeout: 20_000,
}, async (t) => {
  const { notifier, changes } = await service(t, (body) => ({ delayMs: topicsOf(body).length ? 300 : 0 }));
  const seen = grant(["order:1"], { presence: true });
  await notifier.topic(grant(["order:1"]), { since: "e-5" });
  await changes.reached(1); // the call is under way
  await notifier.topic(seen, { since: "e-5" });
  while (!changes.values.some(({ add }) => add?.includes(seen))) await changes.reached(changes.values.length + 1);
  assert.ok(!changes.values[0].add.includes(seen));
});

test("a part that shows the user and is closed while its grant is renewed shows the user no longer", {
  timeout: 20_000,
}, async (t) => {
  const { notifier, changes } = await service(t, () => ({}));
  const next = grant(["order:1"], { n: 1, life: 400, presence: true });
  const answers = collector();
  const renew = () => new Promise((resolve) => answers.add(() => resolve({ grants: [next] })));
  const old = grant(["order:1"]);
  await notifier.topic(old, { since: "e-5", renew });
  const panel = await notifier.topic(grant(["order:1"], { life: 5, presence: true }), { since: "e-5", renew });
  const [answer] = await answers.reached(1);
  const before = changes.values.length;
  panel.close();
  answer();
  const isOver = () => changes.values.slice(before).some(({ remove }) => remove) && shownBy(changes.values).isHeard;
  while (!isOver()) await changes.reached(changes.values.length + 1);
  await notifier.topic(grant(["order:2"]), { since: "e-5" });
  while (!changes.values.some((body) => topicsOf(body).includes("order:2")))
    await changes.reached(changes.values.length + 1);
  assert.deepEqual(shownBy(changes.values), { isHeard: true, isShown: false });
  assert.ok(!changes.values.some(({ add }) => add?.includes(next)));
});

test("with the grant that shows the user that of the others is renewed, which is needed once it is closed", {
  timeout: 20_000,
}, async (t) => {
  const { notifier } = await service(t, () => ({}));
  const [plain, seen] = [grant(["order:1"]), grant(["order:1"], { life: 5, presence: true })];
  const asked = collector();
  const renew = async (tokens) => {
    asked.add(...tokens);
    return { grants: tokens.map((token) => grant(["order:1"], { n: 1, presence: token === seen })) };
  };
  await notifier.topic(plain, { since: "e-5", renew });
  await notifier.topic(seen, { since: "e-5", renew });
  assert.deepEqual(new Set((await asked.reached(1))[0]), new Set([seen, plain]));
});

test("the client tells the user's state again after the service has ended its topic", {
  timeout: 20_000,
}, async (t) => {
  const { notifier, changes, streams } = await service(t, () => ({}));
  const handle = await notifier.topic(grant(["order:1"], { presence: true }), { since: "e-5" });
  await changes.reached(1);
  handle.state("editing");
  await changes.reached(2);
  streams.values[0].write(frame("topics", { left: ["order:1"], reason: "room" }));
  while (changes.values.filter(({ state }) => state?.["order:1"] === "editing").length < 2)
    await changes.reached(changes.values.length + 1);
  assert.ok(changes.values.at(-1).add);
});
