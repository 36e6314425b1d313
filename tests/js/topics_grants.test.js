/** Grants of topics: renewed, refused, ended. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { collector } from "./server.js";
import { grant, service, topicsOf } from "./topic_service.js";

test("a grant that ends soon is renewed; what is denied ends, what the page decides is stale", async (t) => {
  const { notifier, changes } = await service(t, () => ({}));
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
  assert.deepEqual(await asked.reached(1), [[old]]);
  assert.deepEqual(await ended.reached(1), [[["order:2"], "denied"]]);
  assert.deepEqual(await stale.reached(1), [[["order:3"], true]]);
  await changes.reached(3);
  const later = changes.values.slice(1);
  assert.ok(later.some(({ remove }) => remove?.includes("order:2")));
  assert.deepEqual(later.find(({ add }) => add)?.add, [next]);
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
  const { notifier } = await service(t, () => ({}));
  const { asked, renew } = asking((grants) => ({
    grants: [],
    unknown: grants.flatMap((each) => topicsOf({ add: [each] })),
  }));
  const tokens = Array.from({ length: 51 }, (_, n) => grant([`order:${n}`], { life: 61 }));
  await notifier.topic(tokens.join(" "), { since: "e-5", renew });
  await asked.reached(2);
  assert.deepEqual(
    asked.values.map((grants) => grants.length),
    [50, 1],
  );
});

test("what the stream refuses ends with a reason, and the others are heard", async (t) => {
  const bad = grant(["order:1"]);
  const { notifier, changes } = await service(t, ({ add }) => (add?.includes(bad) ? { status: 409 } : {}));
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
