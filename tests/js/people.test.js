/** The people of a topic: a list that is read, and events. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { publicHandle } from "../../client/handle.js";
import { watchPeople } from "../../client/people.js";

const [ANN, BOB, CAT] = ["Ann", "Bob", "Cat"].map((name) => ({ id: name, name, state: "viewing" }));

/** Who is shown, of a topic whose list answers with `lists` in turn; `event(change)` is heard. */
function watched(t, find) {
  const handlers = {};
  const on = (name, handler) => {
    handlers[name] = handler;
    return () => {};
  };
  const ended = new AbortController();
  t.after(() => ended.abort());
  const shown = [];
  const event = (change) => handlers.presence({ topic: "order:1", joined: [], left: [], changed: [], ...change });
  const names = ({ users }) => users.map(({ name }) => name).sort();
  const again = watchPeople(
    { on },
    "order:1",
    () => find(event),
    (people) => shown.push(names(people)),
    ended.signal,
  );
  return { shown, again, end: () => ended.abort() };
}

test("events that come while the list is read are part of it, so that a lively topic is shown", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let asked = 0;
  const { shown } = watched(t, async (event) => {
    asked++;
    event({ count: 3, joined: [BOB] });
    event({ count: 2, left: [CAT] });
    return { count: 2, users: [ANN, CAT] };
  });
  while (!shown.length) await new Promise(setImmediate);
  assert.deepEqual([shown, asked], [[["Ann", "Bob"]], 1]);
});

test("a list that the events of meanwhile do not fit is read again after a pause", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const lists = [
    { count: 1, users: [ANN] },
    { count: 3, users: [ANN, BOB, CAT] },
  ];
  const { shown } = watched(t, async (event) => {
    if (lists.length === 2) event({ count: 3, joined: [BOB] });
    return lists.shift();
  });
  while (lists.length === 2) await new Promise(setImmediate);
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  assert.deepEqual([shown, lists.length], [[], 1]);
  t.mock.timers.tick(4000);
  while (!shown.length) await new Promise(setImmediate);
  assert.deepEqual(shown, [["Ann", "Bob", "Cat"]]);
});

test("a list that cannot be read is tried again once a pause, however often it was asked for", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let asked = 0;
  const turns = async () => {
    for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  };
  const { again, end } = watched(t, async () => {
    asked++;
    return null;
  });
  await turns();
  for (let n = 0; n < 4; n++) {
    again();
    await turns();
  }
  assert.equal(asked, 5);
  t.mock.timers.tick(4000);
  await turns();
  assert.equal(asked, 6);
  end();
  t.mock.timers.tick(4000);
  await turns();
  assert.equal(asked, 6);
});

test("a handle keeps nothing of people that are no longer shown", async () => {
  const handle = { topics: ["a", "b"], stale: new Set(), ends: new Set() };
  const calls = { find: async () => null };
  const end = publicHandle(handle, { on: () => () => {} }, calls).presence(() => {});
  assert.ok(handle.stale.size);
  end();
  assert.equal(handle.stale.size, 0);
});
