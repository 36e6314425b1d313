/** What the service does not let polls hear: they go on with the rest, and no tab loses a good grant. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { grant, iat, isWaiting, LIMIT, part, polled, run, tab, turns, until } from "./refusals.js";

test(
  "after a 403 the client polls with the grants that are valid, and tells the live part whose grant is not",
  LIMIT,
  async (t) => {
    const [good, bad] = [grant("a"), grant("b")];
    const page = await tab(t, polled([bad]));
    page.open(good);
    page.open(bad);
    page.told.length = 0;
    const { events, ends } = run(t, page);
    await until(t, () => isWaiting(page) || ends.length);
    assert.deepEqual([events, ends, page.told], [["hello"], [], ["expired b"]]);
    assert.deepEqual(page.urls.at(-1).searchParams.getAll("grant"), [good]);
  },
);

test(
  "a grant of which polls are refused is renewed once; the next one that is refused as well ends",
  LIMIT,
  async (t) => {
    const [first, next] = [grant("b"), grant("b", 1)];
    const page = await tab(t, polled([first, next]));
    page.open(first, { renew: async () => ({ grants: [next] }) });
    page.told.length = 0;
    const { ends } = run(t, page);
    await until(t, () => (page.told.includes("refused b") && isWaiting(page)) || ends.length);
    assert.deepEqual([ends, page.told], [[], ["stale b", "refused b"]]);
    assert.equal(page.urls.filter(({ searchParams }) => searchParams.has("grant", next)).length, 2); // in the query, and alone
  },
);

test("polls without a good grant go on for the inbox, and a user who may not poll is refused", LIMIT, async (t) => {
  const bad = grant("b");
  const page = await tab(t, polled([bad]));
  page.open(bad);
  const { events, ends } = run(t, page);
  await until(t, () => events.length || ends.length);
  assert.deepEqual([events, ends], [["hello"], []]);
  const other = await tab(t, async () => ({ status: 403 }));
  other.open(grant("a"));
  const refused = run(t, other);
  await until(t, () => refused.ends.length);
  assert.equal(refused.ends[0].status, 403);
});

test("a tab learns from the leading tab that the service refuses its grant", LIMIT, async (t) => {
  const bad = grant("b");
  const leader = await tab(t, polled([bad]), { key: "r1" });
  const follower = await tab(t, polled([]), { key: "r1", leads: false });
  follower.open(bad);
  await until(t, () => leader.polls.url.searchParams.has("grant"));
  const { ends } = run(t, leader);
  await until(t, () => follower.told.includes("expired b"));
  assert.deepEqual([leader.polls.url.searchParams.getAll("grant"), ends], [[], []]);
});

test("polls ask for less where the service hears fewer topics, and the others are stale", LIMIT, async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const page = await tab(t, polled([], 3));
  for (const name of ["a", "b", "c", "d"]) page.open(grant(name));
  page.told.length = 0;
  const { events, ends } = run(t, page);
  await until(t, () => events.length || ends.length);
  assert.deepEqual([ends, page.told], [[], ["stale c", "stale d"]]);
});

test("polls ask for all again after a stream was there", LIMIT, async (t) => {
  const page = await tab(t, polled([], 3));
  const names = ["a", "b", "c", "d"];
  for (const name of names) page.open(grant(name));
  const { events, ends } = run(t, page);
  await until(t, () => events.length || ends.length);
  assert.equal(page.polls.url.searchParams.getAll("grant").length, 2);
  page.notifier.connectionState.state = "open";
  page.handlers.hello({ connection: "" });
  assert.deepEqual(page.polls.url.searchParams.getAll("grant").length, names.length);
});

test("a poll that is refused, of which no grant is to blame for certain, is a failed attempt", LIMIT, async (t) => {
  for (const trial of [200, 502]) {
    const page = await tab(t, async (_, { searchParams }) => {
      const grants = searchParams.getAll("grant");
      return { status: grants.length > 1 ? 403 : grants.length ? trial : 200 };
    });
    for (const name of ["a", "b"]) page.open(grant(name));
    page.told.length = 0;
    const { ends } = run(t, page);
    await until(t, () => ends.length);
    assert.deepEqual([ends, page.told], [[{ status: 0 }], []]);
  }
});

test("grants are tried a few at a time, and no longer than the attempt", LIMIT, async (t) => {
  const trials = [];
  const page = await tab(t, async (_, { searchParams }, signal) => {
    const grants = searchParams.getAll("grant");
    if (grants.length !== 1) return { status: grants.length ? 403 : 200 };
    trials.push(signal);
    await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  });
  for (let n = 0; n < 20; n += 1) page.open(grant(`t${n}`));
  const { link } = run(t, page);
  await until(t, () => trials.length > 1);
  await turns();
  assert.ok(trials.length <= 5, `${trials.length} at a time`);
  link.close();
  await turns();
  assert.ok(trials.length <= 5 && trials.every(({ aborted }) => aborted));
});

test("a poll that hears too much makes no tab renew its grants", LIMIT, async (t) => {
  const page = await tab(t, polled([], 1), { key: "r2" });
  const follower = await tab(t, polled([]), { key: "r2", leads: false });
  const channel = new BroadcastChannel("r2 topics");
  t.after(() => channel.close());
  const messages = [];
  channel.onmessage = ({ data }) => messages.push(data);
  let asked = 0;
  const renew = async () => {
    asked += 1;
    return { grants: [] };
  };
  const short = `${part({})}.${part({ topics: ["a"], iat, exp: iat + 100 })}.x`; // is renewed if anything is
  page.open(short, { renew });
  page.open(grant("b"), { renew });
  const { events, ends } = run(t, page);
  await until(t, () => events.length || ends.length);
  follower.open(grant("c"));
  await until(t, () => messages.some(({ grants }) => grants?.includes(grant("c"))));
  assert.deepEqual([messages.filter(({ refused }) => refused), asked], [[], 0]);
});

/** Says that polls hear a topic no longer, to all tabs. */
const leave = (name, ...tabs) => {
  for (const { handlers } of tabs) handlers.topics({ left: [name], reason: "expired" });
};

test("the end of the leader's grant does not end the newer one of another tab", LIMIT, async (t) => {
  const leader = await tab(t, polled([]), { key: "r3" });
  const follower = await tab(t, polled([]), { key: "r3", leads: false });
  const grantsOf = () => leader.polls.url.searchParams.getAll("grant");
  let asked = 0;
  const renew = async () => {
    asked += 1;
    return { grants: [] };
  };
  leader.open(grant("a"));
  follower.open(grant("a", 240), { renew });
  follower.open(grant("b"));
  await until(t, () => grantsOf().includes(grant("b"))); // the leader knows both
  leave("a", leader, follower);
  follower.open(grant("c"));
  await until(t, () => grantsOf().includes(grant("c")));
  assert.deepEqual([grantsOf().includes(grant("a", 240)), asked], [true, 0]);
  assert.deepEqual(
    follower.told.filter((each) => !each.startsWith("stale")),
    [],
  );
});

test("that a grant ended early is forgotten when the next ones were good", async (t) => {
  const long = (n) => `${part({})}.${part({ topics: ["a"], iat: iat + n, exp: iat + n + 86_400 })}.x`;
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1000 * iat });
  let count = 0;
  const page = await tab(t, polled([]));
  page.open(long(0), { renew: async () => ({ grants: [long(++count)] }) });
  for (let hour = 0; hour < 3; hour += 1) {
    leave("a", page);
    await turns();
    t.mock.timers.tick(3_600_000);
    await turns();
  }
  assert.deepEqual([count, page.told.filter((each) => !each.startsWith("stale"))], [3, []]);
});

/** A service whose room for topics changes; each poll that waits is answered by `next()`. */
function roomy(most) {
  const service = { most, next: () => {} };
  service.answer = async (_, { searchParams }, signal) => {
    if (searchParams.getAll("grant").length > service.most) return { status: 409 };
    if (searchParams.get("wait_s") === "25")
      await new Promise((resolve, reject) => {
        service.next = resolve;
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    return { cursor: "e-6", recovered: true, events: [], tasks: [], unread: 0 };
  };
  return service;
}

test("polls that were to ask for less try more again after some minutes, as far as there is room", LIMIT, async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 1000 * iat });
  const service = roomy(3);
  const page = await tab(t, service.answer);
  const names = ["a", "b", "c", "d", "e", "f", "g", "h"];
  for (const name of names) page.open(grant(name, 3600));
  const { ends } = run(t, page);
  const asked = async (ms) => {
    const before = page.urls.length;
    t.mock.timers.tick(ms);
    service.next();
    await until(t, () => page.urls.length > before && isWaiting(page));
    const counts = page.urls.slice(before).map(({ searchParams }) => searchParams.getAll("grant").length);
    return counts.filter((count, n) => count !== counts[n - 1]); // the grants of the queries, where they change
  };
  await until(t, () => isWaiting(page));
  assert.deepEqual(await asked(299_000), [2]);
  assert.deepEqual(await asked(2000), [5, 2]); // there is no room yet
  assert.deepEqual(await asked(299_000), [2]);
  service.most = 200;
  assert.deepEqual(await asked(2000), [5]);
  assert.deepEqual(await asked(301_000), [8]);
  page.told.length = 0;
  assert.deepEqual(await asked(301_000), [8]);
  assert.deepEqual([ends, page.told], [[], []]);
});
