/** A tab that follows another tab's stream: what it missed, and what it then takes for the present state. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createStatus } from "../../client/connection.js";
import { createFollower } from "../../client/follower.js";
import { createPosition } from "../../client/position.js";

const LIVE = { state: "live", detail: { reason: "hello", final: false } };
const HELLO = { event: "hello", id: "e-9", data: JSON.stringify({ connection: "c2", unread: 3, tasks: [] }) };
const message = (id) => ({ event: { event: "order.paid", id, data: "{}" }, id });
const turns = async () => {
  for (let n = 0; n < 10; n += 1) await Promise.resolve();
};

/** A tab with this cursor, whose leader answers; `greets` are its snapshots, one after the other. */
function following(t, cursor, ...greets) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const told = [];
  const position = createPosition(cursor);
  const listener = { onEvent: ({ event, id }) => told.push(`${event} ${id}`) };
  const status = createStatus({ onState() {}, onConnectionState() {} });
  const greet = async (event) => {
    const id = greets.shift();
    if (!id) throw new Error("the service is away");
    return { event, id, data: "{}" };
  };
  const [receive, ask, stop] = createFollower(
    position,
    status,
    listener,
    greet,
    () => queueMicrotask(() => receive(LIVE)),
    () => told.push("steals"),
  );
  t.after(stop);
  return { told, position, status, receive, ask, stop };
}

/** A tab whose leader answers nothing, and what it does about it. */
function watching() {
  const told = [];
  const [receive, , stop] = createFollower(
    createPosition(""),
    createStatus({ onState() {}, onConnectionState() {} }),
    { onEvent() {} },
    async () => ({ event: "hello", id: "", data: "{}" }),
    () => told.push("asks"),
    () => told.push("replaces"),
  );
  return { told, receive, stop };
}

test("a tab that was away hears nothing, and keeps its cursor, until it knows the present state", async (t) => {
  const { told, position, receive } = following(t, "e-5", "", "e-8");
  receive(LIVE);
  await turns();
  receive(message("e-7")); // what was before it is missing
  assert.deepEqual([told, position.cursor], [[], "e-5"]);
  t.mock.timers.tick(2000);
  await turns();
  receive(message("e-9"));
  assert.deepEqual([told, position.cursor], [["reset e-8", "order.paid e-9"], "e-9"]);
});

test("events that come meanwhile do not delay the next try for the present state", async (t) => {
  const { told, receive } = following(t, "", "", "e-9");
  receive(LIVE);
  await turns();
  for (const id of ["e-6", "e-7", "e-8"]) {
    t.mock.timers.tick(1000);
    await turns();
    receive(message(id));
  }
  assert.equal(told[0], "hello e-9");
});

test("the stream's hello is a reset as well for a tab that was away", async (t) => {
  const { told, receive, status } = following(t, "e-5", "", "");
  receive(LIVE);
  receive({ event: HELLO, id: false });
  assert.deepEqual([told, status.state], [["hello e-9", "reset e-9"], "live"]);
  receive({ event: HELLO, id: false }); // the stream was opened again
  assert.deepEqual(told.slice(2), ["hello e-9"]);
});

test("a new tab has its hello from the stream", (t) => {
  const { told, receive } = following(t, "");
  receive({ event: HELLO, id: false });
  assert.deepEqual(told, ["hello e-9"]);
});

test("a tab asks a leader that is silent for one and a half heartbeats, and replaces it two to four seconds later", async (t) => {
  for (const [heartbeatS, askedAt, replacedAt] of [
    [0.2, 300, 4300],
    [1, 1500, 5500],
    [8, 12_000, 16_000],
    [60, 20_000, 24_000],
    [undefined, 20_000, 24_000], // a leader of an older version
  ]) {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { told, receive, stop } = watching();
    receive({ ...LIVE, heartbeat_s: heartbeatS });
    t.mock.timers.tick(askedAt - 1);
    assert.deepEqual(told, []);
    t.mock.timers.tick(1);
    assert.deepEqual(told, ["asks"]);
    t.mock.timers.tick(1999);
    assert.deepEqual(told, ["asks"]);
    t.mock.timers.tick(replacedAt - askedAt);
    assert.deepEqual(told, ["asks", "replaces"]);
    stop();
    t.mock.timers.reset();
  }
});

test("a tab leaves a leader that waits to reconnect alone for 20 s, however short a heartbeat is: a question ends the wait", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { told, receive, stop } = watching();
  t.after(stop);
  const connection = { state: "reconnecting", reason: "network" };
  receive({ ...LIVE, connection: { state: "open", reason: "hello" }, heartbeat_s: 1 });
  receive({ state: "connecting", detail: { reason: "network", final: false }, connection, heartbeat_s: 1 });
  t.mock.timers.tick(19_999);
  assert.deepEqual(told, []);
  t.mock.timers.tick(1);
  assert.deepEqual(told, ["asks"]);
});

test("a tab that begins to lead goes on from what it has heard, not from what it has not", async (t) => {
  const { position, receive, stop } = following(t, "e-5", "");
  receive(LIVE);
  receive(message("e-7"));
  stop();
  await turns();
  assert.equal(position.cursor, "e-5");
});
