/** Grants of topics: renewed, refused, ended. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { collector, frame } from "./server.js";
import { grant, service, topicsOf } from "./topic_service.js";

test("a grant that ends soon is renewed; what is denied ends, what the page decides is stale", async (t) => {
  const { notifier, changes, streams } = await service(t, () => ({}));
  const [asked, stale, ended] = [collector(), collector(), collector()];
  const old = grant(["order:1", "order:2", "order:3"], { life: 61 });
  const next = grant(["order:1"], { n: 1 });
  await notifier.topic(old, {
    since: "e-5",
    renew: async (grants) => {
      asked.add(grants);
      return { grants: [next], denied: ["order:2"], unknown: ["order:3"] };
    },
    onStale: stale.add,
    onEnded: ended.add,
  });
  await changes.reached(1);
  streams.values[0].write(frame("topics", { left: ["order:1"], reason: "expired" }));
  assert.deepEqual(await asked.reached(1), [[old]]);
  assert.deepEqual(await ended.reached(1), [[["order:2"], "denied"]]);
  assert.deepEqual(await stale.reached(1), [[["order:3"], true]]);
  const has = (test) => changes.values.some(test);
  while (!(has(({ remove }) => remove?.includes("order:2")) && has(({ add }) => add?.includes(next))))
    await changes.reached(changes.values.length + 1);
});

/** A page's server that is asked about grants; each call of `ask` is in `asked`. */
function asking(answer) {
  const asked = collector();
  const renew = async (grants) => {
    asked.add(grants);
    return answer(grants);
  };
  return { asked, renew };
}

test("more grants than one call takes are asked about in parts", async (t) => {
  const { notifier, changes, streams } = await service(t, () => ({}));
  const { asked, renew } = asking((grants) => ({
    grants: [],
    unknown: grants.flatMap((each) => topicsOf({ add: [each] })),
  }));
  const tokens = Array.from({ length: 51 }, (_, n) => grant([`order:${n}`], { life: 61 }));
  await notifier.topic(tokens.join(" "), { since: "e-5", renew });
  await changes.reached(1);
  streams.values[0].write(frame("topics", { left: ["order:1"], reason: "expired" }));
  await asked.reached(2);
  assert.deepEqual(
    asked.values.map((grants) => grants.length),
    [50, 1],
  );
});

test("what the stream refuses ends with a reason, and the others are heard", async (t) => {
  const bad = grant(["order:1"]);
  const { notifier, changes } = await service(t, ({ add }) => (add?.includes(bad) ? { status: 422 } : {}));
  const ended = collector();
  const good = grant(["order:2"]);
  const other = grant(["order:3"]);
  await notifier.topic(`${bad} ${good}`, { since: "e-5", onEnded: (...all) => ended.add(all) });
  await notifier.topic(other, { since: "e-4" });
  assert.deepEqual(await ended.reached(1), [[["order:1"], "refused"]]);
  while (!(has(good) && has(other))) await changes.reached(changes.values.length + 1);

  function has(token) {
    return changes.values.some(({ add }) => add?.includes(token) && !add.includes(bad));
  }
});

test("a grant that has ended by the service's clock is renewed, and joined with the cursor of the page", async (t) => {
  const [old, next] = [grant(["order:1"]), grant(["order:1"], { n: 1 })];
  const { notifier, changes } = await service(t, ({ add }) => (add?.includes(old) ? { status: 403 } : {}));
  const { asked, renew } = asking(() => ({ grants: [next] }));
  const ended = collector();
  await notifier.topic(old, { since: "e-3", renew, onEnded: (...all) => ended.add(all) });
  assert.deepEqual((await changes.reached(2))[1], { connection: "c1", add: [next], since: "e-3" });
  assert.deepEqual([asked.values, ended.values], [[[old]], []]);
});

test("a grant that has ended by the service's clock and cannot be renewed has expired: the page fetches the next", async (t) => {
  const { notifier } = await service(t, () => ({ status: 403 }));
  const ended = collector();
  await notifier.topic(grant(["order:1"]), { since: "e-3", onEnded: (...all) => ended.add(all) });
  assert.deepEqual(await ended.reached(1), [[["order:1"], "expired"]]);
});

test("a new grant that is refused as well ends for good: no service is asked in a circle", async (t) => {
  const { notifier, changes } = await service(t, () => ({ status: 403 }));
  let n = 0;
  const { asked, renew } = asking(() => ({ grants: [grant(["order:1"], { n: ++n })] }));
  const ended = collector();
  await notifier.topic(grant(["order:1"]), { since: "e-3", renew, onEnded: (...all) => ended.add(all) });
  assert.deepEqual(await ended.reached(1), [[["order:1"], "refused"]]);
  assert.deepEqual([asked.values.length, changes.values.length], [1, 2]);
  // Neither by a part of the page that is fetched again.
  await notifier.topic(grant(["order:1"], { n: ++n }), { since: "e-3", renew, onEnded: (...all) => ended.add(all) });
  assert.deepEqual((await ended.reached(2))[1], [["order:1"], "refused"]);
  assert.equal(asked.values.length, 1);
});

test("the client does not fetch the people of a topic that has ended", async (t) => {
  const asked = collector();
  const people = (url) => {
    asked.add(decodeURIComponent(url).split("/")[3]);
    return { count: 1, users: [{ id: "1", name: "Ann", state: "viewing" }] };
  };
  const { notifier, changes, streams } = await service(t, () => ({}), people);
  const ended = collector();
  const renew = async () => ({ grants: [], denied: ["order:1"] });
  const onEnded = (...all) => ended.add(all);
  const denied = await notifier.topic(grant(["order:1"], { life: 61 }), { since: "e-5", renew, onEnded });
  const other = await notifier.topic(grant(["order:2"]), { since: "e-5" });
  await changes.reached(1); // after the first hello
  for (const handle of [denied, other]) handle.presence(() => {});
  await asked.reached(2);
  streams.values[0].write(frame("topics", { left: ["order:1"], reason: "expired" }));
  await ended.reached(1);
  streams.values[0].end();
  await streams.reached(2);
  await asked.reached(3); // the answer to the new stream's hello
  streams.values[1].end();
  await asked.reached(4);
  assert.deepEqual(asked.values.sort(), ["order:1", "order:2", "order:2", "order:2"]);
});
