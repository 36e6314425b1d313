/** The store over a connection that the test speaks for: what it holds, wishes that show at once, refusals. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createStore } from "../../client/store.js";

/** What `connect` answers, with events that a test sends and calls that it settles. */
function fake(inbox = []) {
  const handlers = new Map();
  const calls = [];
  const call =
    (name) =>
    (...args) =>
      new Promise((resolve, reject) => calls.push({ name, args, resolve, reject }));
  const notifier = {
    state: "live",
    on(type, handler) {
      handlers.set(type, handler);
      return () => handlers.delete(type);
    },
    async inbox({ limit, before }) {
      const from = before ? inbox.findIndex(({ id }) => id === before) + 1 : 0;
      const messages = inbox.slice(from, from + limit);
      return {
        messages,
        more: from + limit < inbox.length,
        unread: inbox.filter(({ read }) => !read).length,
        cursor: "e-5",
      };
    },
    markRead: call("markRead"),
    deleteMessage: call("deleteMessage"),
    cancelTask: call("cancelTask"),
    dismissTask: call("dismissTask"),
    answerTask: call("answerTask"),
  };
  const send = (type, data, id = "e-5") => handlers.get(type)?.(data, { event: type, id });
  return { notifier, send, calls, handlers };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const unreadOne = (n) => ({ id: `m${n}`, subject: `Number ${n}`, read: false });
const ids = (store) => store.state.messages.map(({ id, read }) => (read ? `${id} read` : id));

/** A store that has said hello and listed this inbox. */
async function filled(inbox, options) {
  const parts = fake(inbox);
  const store = createStore(parts.notifier, options);
  parts.send("hello", { unread: inbox.filter(({ read }) => !read).length, tasks: [] });
  await settled();
  return { store, ...parts };
}

test("a hello fills it, and a subscriber hears the present and each change once", async () => {
  const { notifier, send } = fake([unreadOne(2), { ...unreadOne(1), read: true }]);
  const store = createStore(notifier);
  const seen = [];
  const stop = store.subscribe((state) => seen.push(state));
  assert.deepEqual(
    seen.map(({ loaded }) => loaded),
    [false],
  );
  send("hello", { unread: 1, tasks: [{ id: "t1", started_at: "2026-01-01T00:00:00Z" }] });
  await settled();
  assert.deepEqual(ids(store), ["m2", "m1 read"]);
  assert.equal(seen.at(-1), store.state);
  assert.deepEqual([store.state.unread, store.state.loaded, store.state.tasks.length], [1, true, 1]);
  const before = seen.length;
  for (const n of [3, 4, 5]) send("message", unreadOne(n), `e-${n + 5}`);
  assert.equal(store.state.unread, 4); // to be had at once
  await settled();
  assert.equal(seen.length, before + 1);
  stop();
  send("message", unreadOne(6), "e-11");
  await settled();
  assert.equal(seen.length, before + 1);
});

test("messages that the count already holds are not counted again", async () => {
  const { store, send } = await filled([unreadOne(1)]);
  send("message", unreadOne(1), "e-5");
  send("message", unreadOne(9), "e-4");
  assert.deepEqual([store.state.unread, ids(store)], [1, ["m9", "m1"]]);
  send("message", unreadOne(2), "other-1");
  assert.equal(store.state.unread, 2);
});

test("a message takes the place of the one that it replaces, and a corrected one stays in its place", async () => {
  const { store, send } = await filled([unreadOne(2), { ...unreadOne(1), read: true }]);
  const news = [];
  store.onNews(({ message }) => news.push(message.id));
  send("message", { ...unreadOne(3), key: "order", replaces: "m2" }, "e-6");
  assert.deepEqual([store.state.unread, ids(store)], [1, ["m3", "m1 read"]]);
  send("message", { ...unreadOne(4), key: "order", replaces: "m1" }, "e-7");
  assert.deepEqual([store.state.unread, ids(store)], [2, ["m4", "m3"]]);
  send("message", { ...unreadOne(3), subject: "Corrected", edited: true }, "e-7");
  assert.deepEqual([store.state.unread, ids(store)], [2, ["m4", "m3"]]);
  assert.equal(store.state.messages[1].subject, "Corrected");
  assert.deepEqual(news, ["m3", "m4"]);
});

test("reading shows at once and stays when the service agrees", async () => {
  const { store, calls } = await filled([unreadOne(2), unreadOne(1)]);
  const done = store.read("m2");
  assert.deepEqual([store.state.unread, ids(store)], [1, ["m2 read", "m1"]]);
  calls[0].resolve({ unread: 1 });
  await done;
  assert.deepEqual([store.state.unread, ids(store)], [1, ["m2 read", "m1"]]);
  await store.read("m2");
  assert.equal(calls.length, 1); // it is read already
});

test("a refusal takes it back, and what came meanwhile stays", async () => {
  const { store, send, calls } = await filled([unreadOne(2), unreadOne(1)]);
  const read = store.read("all");
  const removed = store.remove("m1");
  assert.deepEqual([store.state.unread, ids(store)], [0, ["m2 read"]]);
  send("message", unreadOne(3), "e-6");
  assert.deepEqual([store.state.unread, ids(store)], [1, ["m3", "m2 read"]]);
  calls[0].reject(new Error("no"));
  calls[1].reject(new Error("neither"));
  await assert.rejects(read, /no/);
  await assert.rejects(removed, /neither/);
  assert.deepEqual([store.state.unread, ids(store)], [3, ["m3", "m2", "m1"]]);
});

test("the stream's word may come before the answer: nothing counts twice, and a late answer undoes nothing", async () => {
  const { store, send, calls } = await filled([unreadOne(2), unreadOne(1)]);
  const done = store.read("m1");
  send("inbox", { read: ["m1"], deleted: [], unread: 1 });
  assert.equal(store.state.unread, 1);
  send("message", unreadOne(3), "e-6");
  calls[0].resolve({ unread: 1 });
  await done;
  assert.equal(store.state.unread, 2);
});

test("what another tab or device reads and deletes is taken over", async () => {
  const { store, send } = await filled([unreadOne(2), unreadOne(1)]);
  send("inbox", { read: ["m2"], deleted: ["m1"], unread: 0 });
  assert.deepEqual([store.state.unread, ids(store)], [0, ["m2 read"]]);
});

test("all are read, also those that are not listed yet", async () => {
  const { store, calls } = await filled([unreadOne(3), unreadOne(2), unreadOne(1)], { pageSize: 2 });
  const done = store.read("all");
  assert.equal(store.state.unread, 0);
  assert.deepEqual(calls[0].args, ["all"]);
  calls[0].resolve({ unread: 0 });
  await done;
  assert.equal(store.state.unread, 0);
});

test("older messages come page by page", async () => {
  const inbox = [5, 4, 3, 2, 1].map(unreadOne);
  const { store } = await filled(inbox, { pageSize: 2 });
  await store.older();
  assert.deepEqual([ids(store), store.state.more], [["m5", "m4", "m3", "m2"], true]);
  await store.older();
  assert.deepEqual([ids(store).at(-1), store.state.more], ["m1", false]);
});

test("the last page tells all that the service has, also what the list does not show", async () => {
  const inbox = [5, 4, 3, 2, 1].map((n) => ({ ...unreadOne(n), data: { key: `order ${n % 2}` } }));
  const { store } = await filled(inbox, { pageSize: 2 });
  void store.remove("m5");
  assert.equal(await store.older(), undefined);
  assert.deepEqual(await store.older(), ["m5", "m4", "m3", "m2", "m1"]);
  assert.deepEqual(ids(store), ["m4", "m3"]);
});

test("a page that was asked for before a reset does not mix with the new list", async () => {
  const inbox = [3, 2, 1].map(unreadOne);
  const { store, send } = await filled(inbox, { pageSize: 2 });
  const older = store.older();
  inbox.splice(0, 3, unreadOne(7));
  send("reset", { unread: 1, tasks: [] });
  await older;
  await settled();
  assert.deepEqual([ids(store), store.state.unread, store.state.more], [["m7"], 1, false]);
});

test("a page that was asked for while the list was loaded again leaves no hole in it", async () => {
  const inbox = [6, 5, 4, 3, 2, 1].map(unreadOne);
  const { store, notifier } = await filled(inbox, { pageSize: 2 });
  await store.older();
  const { inbox: real } = notifier;
  const waiting = [];
  notifier.inbox = (page) => new Promise((resolve) => waiting.push(async () => resolve(await real(page))));
  const reload = store.reload();
  inbox.unshift(unreadOne(8), unreadOne(7));
  const older = store.older();
  await waiting[0]();
  await reload;
  assert.deepEqual(ids(store), ["m8", "m7", "m6", "m5"]);
  await waiting[1]();
  await older;
  assert.deepEqual([ids(store), store.state.more], [["m8", "m7", "m6", "m5"], true]);
});

test("tasks: the newest state counts, what is gone is gone, and only what happens now is news", async () => {
  const { notifier, send } = fake();
  const store = createStore(notifier);
  const news = [];
  store.onNews(({ task }) => news.push(`${task.id} ${task.status}`));
  const task = (id, status, s, ended_at = null) => ({
    id,
    status,
    started_at: `2026-01-01T00:00:0${id.at(-1)}Z`,
    updated_at: `2026-01-01T00:00:${s}Z`,
    ended_at,
  });
  send("hello", { unread: 0, tasks: [task("t1", "running", 10)] });
  send("task", task("t2", "running", 20));
  send("task", task("t2", "cancelling", 30));
  send("task", task("t2", "running", 25));
  assert.deepEqual(
    store.state.tasks.map(({ id, status }) => `${id} ${status}`),
    ["t2 cancelling", "t1 running"],
  );
  send("hello", { unread: 0, tasks: [task("t2", "cancelled", 40, "x")] });
  assert.deepEqual(
    store.state.tasks.map(({ id, status }) => `${id} ${status}`),
    ["t2 cancelled"],
  );
  assert.deepEqual(news, ["t2 running", "t2 cancelled"]);
});

test("a task is dismissed at once, and comes back when that is refused", async () => {
  const { store, send, calls } = await filled([]);
  send("task", { id: "t1", started_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z", ended_at: "x" });
  const done = store.dismiss("t1");
  assert.equal(store.state.tasks.length, 0);
  calls[0].reject(new Error("no"));
  await assert.rejects(done, /no/);
  assert.equal(store.state.tasks.length, 1);
});

test("what this page answered is known until the next answer to the task, and no longer than the task", async () => {
  const { store, send, calls } = await filled([]);
  const task = (id) => ({ id, started_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z", ended_at: null });
  const known = () =>
    ["t1 q1", "t1 q2", "t2 q3", "t3 q4"].filter((name) => store.answersHere(...name.split(" "))).join(", ");
  for (const id of ["t1", "t2", "t3"]) {
    send("task", task(id));
    void store.answer(id, { t1: "q1", t2: "q3", t3: "q4" }[id], "yes");
  }
  assert.equal(known(), "t1 q1, t2 q3, t3 q4");
  for (const { resolve, args } of calls) resolve(task(args[0]));
  await settled();
  assert.equal(known(), "t1 q1, t2 q3, t3 q4");
  const second = store.answer("t1", "q2", "yes");
  assert.equal(known(), "t1 q2, t2 q3, t3 q4");
  send("task.dismissed", { id: "t2" });
  assert.equal(known(), "t1 q2, t3 q4");
  send("hello", { unread: 0, tasks: [task("t1")] });
  assert.equal(known(), "t1 q2");
  calls.at(-1).reject(new Error("no"));
  await assert.rejects(second, /no/);
  assert.equal(known(), "");
});

test("an answer that was refused late leaves the later answer known", async () => {
  const { store, calls } = await filled([]);
  const first = store.answer("t1", "q1", "yes");
  void store.answer("t1", "q2", "yes");
  calls[0].reject(new Error("late"));
  await assert.rejects(first, /late/);
  assert.deepEqual([store.answersHere("t1", "q1"), store.answersHere("t1", "q2")], [false, true]);
});

test("it lets go of the connection when closed", async () => {
  const { store, handlers } = await filled([]);
  store.close();
  assert.equal(handlers.size, 0);
});

test("a later message with the same key takes the place of the earlier one, read and deleted with it", async () => {
  const keyed = (n) => ({ ...unreadOne(n), data: { key: "order-7" } });
  const { store, send, calls } = await filled([unreadOne(3), keyed(2), unreadOne(1)]);
  send("message", keyed(4), "e-9");
  assert.deepEqual(ids(store), ["m4", "m3", "m1"]);
  assert.equal(store.state.unread, 3);
  const reading = store.read("m4");
  assert.deepEqual(calls[0].args, [["m4", "m2"]]);
  assert.deepEqual([ids(store), store.state.unread], [["m4 read", "m3", "m1"], 2]);
  calls[0].resolve({ unread: 2 });
  await reading;
  const removing = store.remove("m4");
  assert.deepEqual(
    calls.slice(1).map(({ args }) => args),
    [["m4"], ["m2"]],
  );
  assert.deepEqual(ids(store), ["m3", "m1"]);
  for (const { resolve } of calls.slice(1)) resolve({ unread: 2 });
  await removing;
  assert.deepEqual([ids(store), store.state.unread], [["m3", "m1"], 2]);
});

/** A store whose inbox and tasks a test answers. */
function asked() {
  const parts = fake();
  const loads = [];
  const load = (name) => () => new Promise((resolve, reject) => loads.push({ name, resolve, reject }));
  const store = createStore({ ...parts.notifier, inbox: load("inbox"), tasks: load("tasks") });
  return { ...parts, store, loads };
}

const page = (cursor, ...messages) => ({ messages, more: false, unread: messages.length, cursor });

test("list, unread count and tasks are fetched at the start, beside the stream", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { store, send, loads } = asked();
  assert.deepEqual([store.state.loaded, store.state.tasksLoaded], [false, false]);
  t.mock.timers.tick(500);
  assert.deepEqual(
    loads.map(({ name }) => name),
    ["inbox", "tasks"],
  );
  loads[0].resolve(page("e-5", unreadOne(1)));
  loads[1].resolve([{ id: "t1", started_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z" }]);
  await settled();
  assert.deepEqual([store.state.unread, ids(store), store.state.loaded], [1, ["m1"], true]);
  assert.deepEqual([store.state.tasks.length, store.state.tasksLoaded], [1, true]);
  const news = [];
  store.onNews(({ kind }) => news.push(kind));
  send("hello", { unread: 1, tasks: store.state.tasks });
  assert.deepEqual(news, []);
  assert.equal(loads.length, 3); // a later hello loads the list again
});

test("a hello during the first fetch needs no second one, unless something happened in between", async () => {
  const same = asked();
  same.send("hello", { unread: 1, tasks: [] }, "e-5");
  same.loads[0].resolve(page("e-5", unreadOne(1)));
  await settled();
  assert.equal(same.loads.length, 1);
  assert.deepEqual([same.store.state.unread, same.store.state.loaded], [1, true]);
  for (const [unread, cursor] of [
    [2, "e-5"],
    [1, "e-6"],
  ]) {
    const other = asked();
    other.send("hello", { unread, tasks: [] }, cursor);
    other.loads[0].resolve(page("e-5", unreadOne(1)));
    await settled();
    assert.equal(other.loads.length, 2);
  }
});

test("a fetch that failed shows, until another one or a hello brings it", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { store, loads } = asked();
  t.mock.timers.tick(500);
  loads[0].reject(new Error("away"));
  loads[1].reject(new Error("away"));
  await settled();
  const state = () => [store.state.failed, store.state.loaded, store.state.tasksFailed, store.state.tasksLoaded];
  assert.deepEqual(state(), [true, false, true, false]);
  const done = store.reload();
  loads[2].resolve(page("e-5"));
  loads[3].resolve([]);
  await done;
  assert.deepEqual(state(), [false, true, false, true]);
});

test("`reload` resolves to nothing, and `retry` is the connection's present one", async () => {
  const { store, notifier, send } = await filled([]);
  send("hello", { unread: 0, tasks: [] });
  assert.equal(await store.reload(), undefined);
  let count = 0;
  notifier.retry = () => (count += 1);
  store.retry();
  assert.equal(count, 1);
});
