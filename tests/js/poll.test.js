/** Polls instead of a stream: when they begin, what their answers become, and the way back. */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { message, open } from "./client.js";
import { collector, frame, serve, status, stream } from "./server.js";

/** A stream of which a proxy lets nothing through. */
const silent = (_request, response) => response.on("error", () => {});

const answer = ({ cursor = "e-1", recovered = true, events = [], tasks = [], unread = 0 } = {}) =>
  JSON.stringify({ cursor, recovered, events, tasks, unread });

const json = (body) => (_request, response) =>
  response.writeHead(200, { "Content-Type": "application/json" }).end(body);

const event = (name, data, id = null) => ({ id, event: name, data });

/** A server whose streams are held back and whose polls get these answers, one after the other; the last is never given. */
async function holding(t, ...answers) {
  let polls = 0;
  const server = await serve(t, (request, response) => {
    if (!request.url.startsWith("/v1/poll")) return silent(request, response);
    const next = answers[polls++];
    if (next) json(next)(request, response);
  });
  return {
    ...server,
    pollsOf: () => server.requests.map(({ url }) => url).filter((url) => url.startsWith("/v1/poll")),
  };
}

/** Lets this many requests come, and 8 silent seconds pass after each. */
async function waitSilently(server, count) {
  for (let n = 1; n <= count; n += 1) {
    await server.nthRequest(n);
    mock.timers.tick(8001);
    await new Promise((resolve) => setImmediate(resolve));
    mock.timers.tick(1); // the wait before the next attempt, which is 0
  }
}

// For the whole file: `fetch` keeps a timer of its own over the tests.
mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() });

test("after two streams without a byte within 8 s it polls, and the events are those of a stream", async (t) => {
  const task = { id: "t1", updated_at: "2026-01-01T00:00:00Z", ended_at: "2026-01-01T00:00:00Z" };
  const first = answer({ tasks: [task], unread: 1 });
  const second = answer({
    cursor: "e-4",
    events: [event("message", { id: "m1" }, "e-2"), event("blink", 7)],
    unread: 2,
  });
  const server = await holding(t, first, second);
  const all = collector();
  const states = collector();
  const { notifier } = open(t, server.url, {
    onEvent: ({ event, id }) => all.add(`${event} ${id}`),
    onConnectionState: ({ state }) => states.values.at(-1) === state || states.add(state),
  });
  await waitSilently(server, 2);
  assert.deepEqual(await all.reached(4), ["hello e-1", "message e-2", "blink ", "task.dismissed "]);
  assert.equal(server.requests.length, 4);
  assert.deepEqual(server.pollsOf(), ["/v1/poll?wait_s=0", "/v1/poll?after=e-1&wait_s=25"]);
  assert.equal(notifier.state, "live");
  assert.equal(notifier.connectionState.state, "polling");
  assert.deepEqual(states.values, ["reconnecting", "polling"]);
  mock.timers.tick(500);
  assert.match((await server.nthRequest(5)).url, /after=e-4&/);
});

test("the client emits what changed between two polls as the events of a stream", async (t) => {
  const at = (second, id) => ({ id, updated_at: `2026-01-01T00:00:0${second}Z`, ended_at: null });
  const server = await holding(
    t,
    answer({ tasks: [at(1, "a"), at(1, "b")], unread: 1 }),
    answer({ events: [event("task", at(2, "a"))], tasks: [at(2, "a"), at(3, "b"), at(1, "c")], unread: 1 }),
    answer({ tasks: [at(2, "a"), at(3, "b"), at(1, "c")], unread: 0 }),
  );
  const all = collector();
  const { notifier } = open(t, server.url, { onTask: ({ id }) => all.add(`task ${id}`) });
  notifier.on("inbox", (change) => all.add(change));
  await waitSilently(server, 2);
  assert.deepEqual(await all.reached(3), ["task a", "task b", "task c"]);
  mock.timers.tick(500);
  await all.reached(4);
  assert.deepEqual(all.values[3], { read: [], deleted: [], unread: 0 });
  assert.match(server.pollsOf()[1], /wait_s=3$/); // a task runs
});

/** Passes this mocked time in steps, in each of which requests are answered. */
async function pass(seconds) {
  for (let n = 0; n < seconds; n += 5) {
    mock.timers.tick(5000);
    for (let turn = 0; turn < 40; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }
}

for (const comesThrough of [true, false]) {
  test(`after five minutes of polls a stream is tried again, which ${comesThrough ? "comes through" : "is silent"}`, async (t) => {
    let isHeld = true;
    const server = await serve(t, (request, response) => {
      if (request.url.startsWith("/v1/poll")) json(answer())(request, response);
      else if (!isHeld) stream(message(2))(request, response);
    });
    const states = collector();
    const { notifier } = open(t, server.url, {
      onConnectionState: ({ state }) => states.values.at(-1) === state || states.add(state),
    });
    const streams = () => server.requests.filter(({ url }) => url === "/v1/stream").length;
    await waitSilently(server, 2);
    await states.reached(2);
    isHeld = !comesThrough;
    await pass(290);
    assert.equal(streams(), 2);
    await pass(15);
    while (streams() < 3) await server.nthRequest(server.requests.length + 1);
    if (comesThrough) await states.reached(3);
    await pass(10);
    assert.equal(streams(), 3); // one silent try was enough
    assert.equal(notifier.connectionState.state, comesThrough ? "open" : "polling");
    assert.deepEqual(states.values, ["reconnecting", "polling", ...(comesThrough ? ["open"] : [])]);
  });
}

test("a poll without an answer is given up", async (t) => {
  const server = await holding(t, answer());
  const { notifier } = open(t, server.url);
  await waitSilently(server, 2);
  await server.nthRequest(4); // the poll that waits
  await pass(35);
  assert.equal(notifier.connectionState.state, "polling");
  await pass(5);
  assert.equal(notifier.connectionState.state, "reconnecting");
});

test("a service that answers neither is tried with the stream again", async (t) => {
  const server = await serve(t, silent);
  const { notifier } = open(t, server.url);
  await waitSilently(server, 3);
  await server.nthRequest(4);
  assert.deepEqual(
    server.requests.map(({ url }) => url.split("?")[0]),
    ["/v1/stream", "/v1/stream", "/v1/poll", "/v1/stream"],
  );
  assert.equal(notifier.connectionState.state, "reconnecting");
});

test("a ping before hello is no silence: the service waits for its broker", async (t) => {
  const server = await serve(t, (_request, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(frame("ping", {}));
  });
  const pings = collector();
  const { notifier } = open(t, server.url);
  notifier.on("ping", pings.add);
  await pings.reached(1);
  mock.timers.tick(30_000);
  assert.equal(server.requests.length, 1);
});

test("bye in an answer ends the polls for as long as it says, and a 401 gets another token", async (t) => {
  const bye = answer({ events: [event("bye", { reason: "expired", retry_ms: 700 })] });
  const server = await holding(t, answer(), bye);
  let asked = 0;
  const { states } = open(t, server.url, { token: "old", getToken: () => `new-${++asked}` });
  await waitSilently(server, 2);
  await states.reached(3);
  assert.equal(states.values.at(-1), "connecting expired");
  mock.timers.tick(701);
  assert.equal((await server.nthRequest(5)).headers.authorization, "Bearer new-1");
});

test("a topic that is opened while a poll waits is in the next one at once, from the same cursor", async (t) => {
  const hello = { v: 1, recovered: true, replayed: 0, unread: 0, tasks: [], heartbeat_s: 15, connection: "c1" };
  const server = await serve(
    t,
    (_request, response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.end(frame("hello", hello, "e-1")); // the stream of before, in another network
    },
    silent,
    silent,
    json(answer({ cursor: "e-2" })),
    silent,
  );
  const { notifier } = open(t, server.url);
  await server.nthRequest(1);
  while (notifier.connectionState.state !== "reconnecting") await new Promise((resolve) => setImmediate(resolve));
  mock.timers.tick(1);
  for (const n of [2, 3]) {
    await server.nthRequest(n);
    mock.timers.tick(8001);
    await new Promise((resolve) => setImmediate(resolve));
    mock.timers.tick(1);
  }
  await server.nthRequest(5); // the poll that waits
  mock.timers.tick(19_500);
  const stale = collector();
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const iat = Date.now() / 1000;
  const grant = `${part({})}.${part({ topics: ["order:1"], iat, exp: iat + 300 })}.x`;
  await notifier.topic(grant, { since: "e-1", onStale: stale.add });
  assert.deepEqual(await stale.reached(1), [["order:1"]]);
  const { method, url } = await server.nthRequest(6);
  // It asks for what is left of the wait: the watchdog counts from the last answer.
  assert.equal(`${method} ${url}`, `GET /v1/poll?grant=${grant}&after=e-2&wait_s=5`);
});

test("a poll that is refused for good ends the connection", async (t) => {
  const server = await serve(t, silent, silent, status(403));
  const { notifier, states } = open(t, server.url);
  await waitSilently(server, 2);
  await states.reached(2);
  assert.equal(states.values.at(-1), "offline refused final");
  assert.deepEqual(
    [notifier.connectionState.state, notifier.connectionState.reason, notifier.connectionState.nextTryAt],
    ["refused", "refused", 0],
  );
});
