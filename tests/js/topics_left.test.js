/** The end of a topic, or of a state, on the stream: tried again where it failed, and right beside joins of other tabs. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { grant, LIMIT, stream, tab, turns, until } from "./refusals.js";

/** A tab that has closed its only topic while the service answered with this status; 0: not at all. */
async function failing(t, status) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { heard, answer } = stream(10);
  const service = { isAway: false, removals: 0, heard };
  const page = await tab(
    t,
    async (body) => {
      if (body.remove) service.removals += 1;
      if (!service.isAway) return answer(body);
      if (!status) throw new TypeError("Failed to fetch");
      return { status };
    },
    { connectionId: "c1" },
  );
  const handle = page.open(grant("a"));
  await turns();
  assert.deepEqual([...heard], ["a"]);
  service.isAway = true;
  handle.close();
  /** The other tabs have had the time to say that they show it. */
  const asked = async () => {
    t.mock.timers.tick(300);
    await turns();
  };
  await asked();
  assert.equal(service.removals, 1);
  /** The pause after the failure is over. */
  const paused = async () => {
    t.mock.timers.tick(4000);
    await turns();
    await asked();
  };
  return { page, service, paused };
}

for (const status of [0, 429, 503]) {
  test(`the end of a topic that failed with ${status || "no answer"} is tried until the stream has left it`, async (t) => {
    const { service, paused } = await failing(t, status);
    await paused();
    assert.deepEqual([service.removals, [...service.heard]], [2, ["a"]]);
    service.isAway = false;
    await paused();
    assert.deepEqual([service.removals, [...service.heard]], [3, []]);
    await paused();
    assert.equal(service.removals, 3);
  });
}

test("the end of a topic that failed is not tried again once the topic is shown again", async (t) => {
  const { page, service, paused } = await failing(t, 503);
  service.isAway = false;
  page.open(grant("a", 1));
  await paused();
  assert.deepEqual([service.removals, [...service.heard]], [1, ["a"]]);
});

test("the end of a topic that failed is not tried again on another stream, nor after the end of all", async (t) => {
  const { page, service, paused } = await failing(t, 503);
  page.handlers.hello({ connection: "c2" });
  await paused();
  assert.equal(service.removals, 1);
  const other = page.open(grant("b"));
  service.isAway = false;
  await paused();
  service.isAway = true;
  other.close();
  await paused();
  const { removals } = service;
  assert.ok(removals > 1);
  page.handlers.state("closed", { final: true });
  await paused();
  assert.equal(service.removals, removals);
});

for (const status of [0, 429, 503]) {
  const failure = status || "no answer";
  test(
    `a state that the leader takes back with ${failure} is taken back once the service answers`,
    LIMIT,
    async (t) => {
      t.mock.timers.enable({ apis: ["setTimeout"] });
      const { answer } = stream(10);
      const service = { isAway: false, calls: [], state: "" };
      const served = async (body) => {
        if (body.state) service.calls.push(body.state.a);
        if (service.isAway && !status) throw new TypeError("Failed to fetch");
        if (service.isAway) return { status };
        service.state = body.state?.a ?? service.state;
        return answer(body);
      };
      const key = `calm ${status}`;
      const leader = await tab(t, served, { connectionId: "c1", key });
      const follower = await tab(t, served, { connectionId: "c1", key, leads: false });
      leader.open(grant("a")); // so the topic stays
      const handle = follower.open(grant("a"));
      handle.state("editing");
      await until(t, () => service.state === "editing");
      await turns();
      service.isAway = true;
      handle.close();
      await until(t, () => service.calls.length > 1);
      /** The pause after the failure is over. */
      const paused = async () => {
        await turns();
        t.mock.timers.tick(4000);
        await turns();
      };
      await paused();
      assert.deepEqual([service.calls, service.state], [["editing", "viewing", "viewing"], "editing"]);
      service.isAway = false;
      await paused();
      assert.deepEqual([service.calls.length, service.state], [4, "viewing"]);
      await paused();
      assert.equal(service.calls.length, 4);
    },
  );
}

test(
  "a topic that a tab joins while the leader ends it is heard, also where its answer lacks the topic",
  LIMIT,
  async (t) => {
    const { heard, answer } = stream(10);
    let [joins, removals, added, removed] = [0, 0, null, null];
    const isAdded = new Promise((resolve) => (added = resolve));
    const isRemoved = new Promise((resolve) => (removed = resolve));
    const leader = await tab(
      t,
      async (body) => {
        if (!body.remove) return answer(body);
        removals += 1;
        await isAdded;
        answer(body);
        removed();
        await until(t, () => joins > 1 || follower.told.length); // that answer arrives first
        return answer({});
      },
      { connectionId: "c1", key: "left1" },
    );
    const follower = await tab(
      t,
      async (body) => {
        joins += 1;
        answer(body);
        added();
        await isRemoved;
        if (joins > 1) answer(body);
        return { ...answer({}), topics: [...heard] };
      },
      { connectionId: "c1", key: "left1", leads: false },
    );
    const handle = leader.open(grant("a"));
    await until(t, () => heard.size);
    handle.close();
    await until(t, () => removals);
    follower.open(grant("a"));
    await until(t, () => joins > 1 || follower.told.length);
    await turns();
    assert.deepEqual([follower.told, [...heard]], [[], ["a"]]);
  },
);

test("an answer that lacks a topic ends it only after another one of the same stream", LIMIT, async (t) => {
  const { heard, answer } = stream(10);
  let joins = 0;
  const page = await tab(
    t,
    async (body) => {
      if (!body.add) return answer(body);
      joins += 1;
      if (joins === 2) page.handlers.hello({ connection: "c2" });
      const answered = answer(body);
      return joins % 2 ? { ...answered, topics: [] } : answered;
    },
    { connectionId: "c1" },
  );
  page.open(grant("a"));
  await until(t, () => joins > 3 || page.told.length);
  await turns();
  assert.deepEqual([joins, [...heard], page.told], [4, ["a"], []]);
});

test("a topic that a tab leaves before its late join arrives is ended again by the leader", LIMIT, async (t) => {
  const { heard, answer } = stream(10);
  let [joins, removals] = [0, 0];
  await tab(
    t,
    async (body) => {
      if (body.remove) removals += 1;
      return answer(body);
    },
    { connectionId: "c1", key: "left2" },
  );
  const follower = await tab(
    t,
    async (body) => {
      joins += 1;
      await until(t, () => removals);
      return answer(body);
    },
    { connectionId: "c1", key: "left2", leads: false },
  );
  const handle = follower.open(grant("a"));
  await until(t, () => joins);
  handle.close();
  await until(t, () => removals > 1);
  await turns();
  assert.deepEqual([removals, [...heard]], [2, []]);
});
