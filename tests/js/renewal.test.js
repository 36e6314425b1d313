/** Renewal of grants: what the page decides, and a page's server that is away. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "../../client/grants.js";
import { createRenewal } from "../../client/renewal.js";

/** One topic whose grant ends in `lifeS`; `answer` answers the renewals. The time is that of the returned function. */
function renewing(t, lifeS, answer) {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_700_000_000_000 });
  const told = [];
  let calls = 0;
  const renew = async () => {
    calls += 1;
    return answer();
  };
  const topic = {
    ...create("e-5"),
    token: "old",
    life: 1000 * lifeS,
    exp: Date.now() + 1000 * lifeS,
    handles: new Set([{ renew }]),
  };
  const topics = new Map([["order:1", topic]]);
  const end = (names, reason) => {
    told.push([reason, ...names]);
    for (const name of names) topics.delete(name);
  };
  const renewal = createRenewal(
    topics,
    (names) => told.push(["stale", ...names]),
    end,
    () => {},
  );
  renewal.plan();
  return { told, calls: () => calls, passes };

  async function passes(seconds) {
    for (let each = 0; each < seconds; each += 1) {
      t.mock.timers.tick(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

test("what the page decides is stale once for each grant, and ends with it", async (t) => {
  const { told, calls, passes } = renewing(t, 300, () => ({ grants: [], unknown: ["order:1"] }));
  await passes(239);
  assert.deepEqual([calls(), told], [0, []]);
  await passes(60);
  assert.deepEqual([calls(), told], [1, [["stale", "order:1"]]]);
  await passes(60);
  assert.deepEqual(
    [calls(), told],
    [
      1,
      [
        ["stale", "order:1"],
        ["expired", "order:1"],
      ],
    ],
  );
});

test("a page's server that is away is asked less and less often, for the hour in which a grant is renewable", async (t) => {
  const { told, calls, passes } = renewing(t, 61, () => Promise.reject(new Error("away")));
  await passes(600);
  // After at most 2, 4, 8, 16, 32 and then 60 s each, at least half of these.
  assert.ok(calls() >= 12 && calls() <= 25, `${calls()} calls`);
  assert.deepEqual(told, []);
  await passes(3200);
  assert.deepEqual(told, [["expired", "order:1"]]);
});

test("a page's server that refuses is asked again until the grant ends", async (t) => {
  const { told, calls, passes } = renewing(t, 61, () => ({ grants: [] }));
  await passes(200);
  assert.ok(calls() > 1 && calls() <= 10, `${calls()} calls`);
  assert.deepEqual(told, [["expired", "order:1"]]);
});
