/** The connection against a real server: reconnecting, the cursor, refusals, the watchdog, repeats. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { backoffMs } from "../../client/attempts.js";
import { message, open } from "./client.js";
import { collector, cut, frame, serve, status, stream } from "./server.js";

test("events reach those who listen, with their data read", async (t) => {
  const server = await serve(t, stream(message(1) + frame("order.paid", [1, 2], "e-2")));
  const all = collector();
  const paid = collector();
  const messages = collector();
  const { notifier } = open(t, server.url, { onMessage: (data) => messages.add(data), onEvent: all.add });
  notifier.on("order.paid", paid.add);
  await all.reached(3);
  assert.deepEqual(messages.values, [{ id: "m1", subject: "Number 1" }]);
  assert.deepEqual(paid.values, [[[1, 2], { event: "order.paid", data: "[1,2]", id: "e-2" }]]);
  assert.deepEqual(
    all.values.map(([event]) => event.event),
    ["hello", "message", "order.paid"],
  );
  assert.equal(notifier.state, "live");
  assert.equal(notifier.cursor, "e-2");
});

test("the token goes in a header and never in the address", async (t) => {
  const server = await serve(t, stream());
  open(t, `${server.url}/sub/`, { token: "secret-token" });
  const { url, headers } = await server.nthRequest(1);
  assert.equal(url, "/sub/v1/stream");
  assert.equal(headers.authorization, "Bearer secret-token");
});

test("a stream that ends is opened again after the last id", async (t) => {
  const server = await serve(t, stream(message(1) + message(2), { end: true }), stream(message(3), { id: "e-2" }));
  const messages = collector();
  const { states } = open(t, server.url, { onMessage: ({ id }) => messages.add(id) });
  assert.deepEqual(await messages.reached(3), ["m1", "m2", "m3"]);
  assert.equal(server.requests[0].headers["last-event-id"], undefined);
  assert.equal(server.requests[1].headers["last-event-id"], "e-2");
  assert.deepEqual(states.values, ["live hello", "connecting ended", "live hello"]);
});

test("a cursor that is given is sent with the first request", async (t) => {
  const server = await serve(t, stream("", { id: "e-41" }));
  open(t, server.url, { cursor: "e-41" });
  assert.equal((await server.nthRequest(1)).headers["last-event-id"], "e-41");
});

test("a cut connection and a server that is away are tried again until it answers", async (t) => {
  const server = await serve(t, cut, status(503), status(404), stream());
  const { states } = open(t, server.url);
  assert.deepEqual(await states.reached(2), ["offline network", "live hello"]);
  assert.equal(server.requests.length, 4);
});

test("an answer that is not an event stream counts as a failure", async (t) => {
  const page = (_request, response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<h1>Log in</h1>");
  const server = await serve(t, page, stream());
  const { states } = open(t, server.url);
  assert.deepEqual(await states.reached(2), ["offline ended", "live hello"]);
});

test("the wait doubles, is random from zero up, and has a limit", (t) => {
  const random = t.mock.method(Math, "random", () => 1);
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5, 60].map((n) => backoffMs(n)),
    [1000, 2000, 4000, 8000, 16000, 30000, 30000],
  );
  random.mock.mockImplementation(() => 0);
  assert.deepEqual(
    [0, 9].map((n) => backoffMs(n)),
    [0, 0],
  );
  assert.equal(backoffMs(3, 1500), 1500);
});

test("the server's retry is the least wait", async (t) => {
  const server = await serve(t, stream("retry: 300\n\n", { end: true }), stream());
  open(t, server.url);
  const second = await server.nthRequest(2);
  assert.ok(second.at - server.requests[0].at >= 290, `came back after ${second.at - server.requests[0].at} ms`);
});

test("a farewell ends the stream from this side and is waited out as it says", async (t) => {
  const server = await serve(t, stream(frame("bye", { reason: "drain", retry_ms: 300 })), stream());
  const byes = collector();
  const { notifier, states } = open(t, server.url, {}, { random: 60 }); // a backoff would take longer than the test waits
  notifier.on("bye", ({ reason }) => byes.add(reason));
  const first = await server.nthRequest(1);
  await once(first.response, "close");
  const second = await server.nthRequest(2);
  assert.ok(second.at - first.at >= 290, `came back after ${second.at - first.at} ms`);
  await states.reached(3);
  assert.deepEqual(byes.values, ["drain"]);
  assert.deepEqual(states.values, ["live hello", "connecting drain", "live hello"]);
});

test("Retry-After of a refusal is waited out", async (t) => {
  const server = await serve(t, status(429, "", { "Retry-After": "0.3" }), stream());
  open(t, server.url);
  const second = await server.nthRequest(2);
  assert.ok(second.at - server.requests[0].at >= 290);
});

test("a 401 fetches a new token and goes on at once, from the same cursor", async (t) => {
  const server = await serve(t, stream(message(1), { end: true }), status(401), stream());
  let asked = 0;
  const { states } = open(t, server.url, { token: "old", getToken: () => `new-${++asked}` });
  await states.reached(3);
  assert.deepEqual(
    server.requests.map(({ headers }) => headers.authorization),
    ["Bearer old", "Bearer old", "Bearer new-1"],
  );
  assert.equal(server.requests[2].headers["last-event-id"], "e-1");
  assert.equal(asked, 1);
});

test("a token that is refused again and again is not asked for in a hot loop", async (t) => {
  const server = await serve(t, status(401));
  let asked = 0;
  const { states } = open(t, server.url, { getToken: () => `bad-${++asked}` }, { random: 1 });
  assert.deepEqual(await states.reached(1), ["offline status 401"]);
  assert.equal(server.requests.length, 2);
});

test("a 401 without a way to a new token ends it for good", async (t) => {
  const server = await serve(t, status(401));
  const { states, notifier } = open(t, server.url);
  assert.deepEqual(await states.reached(1), ["offline unauthorized final"]);
  assert.equal(notifier.state, "offline");
});

test("nobody is logged in: no request is made at all", async (t) => {
  const server = await serve(t, stream());
  const { states } = open(t, server.url, { token: undefined, getToken: () => null });
  assert.deepEqual(await states.reached(1), ["offline unauthorized final"]);
  assert.equal(server.requests.length, 0);
});

test("an expired stream comes back with a new token", async (t) => {
  const server = await serve(t, stream(frame("bye", { reason: "expired", retry_ms: 1 })), stream());
  open(t, server.url, { token: "old", getToken: () => ({ token: "new", expires_in: 60 }) });
  assert.equal((await server.nthRequest(2)).headers.authorization, "Bearer new");
});

test("a token's address that fails is asked again", async (t) => {
  const server = await serve(t, stream());
  let asked = 0;
  const getToken = async () => {
    if (++asked < 3) throw new Error("away");
    return "late";
  };
  const { states } = open(t, server.url, { token: undefined, getToken });
  assert.deepEqual(await states.reached(2), ["offline network", "live hello"]);
  assert.equal(server.requests[0].headers.authorization, "Bearer late");
});

for (const [code, reason] of [
  [204, "stopped"],
  [403, "refused"],
]) {
  test(`a ${code} ends it for good`, async (t) => {
    const server = await serve(t, status(code), stream());
    const { states } = open(t, server.url, { getToken: () => "another" });
    assert.deepEqual(await states.reached(1), [`offline ${reason} final`]);
    assert.equal(server.requests.length, 1);
  });
}

test("a stream that falls silent is opened again", async (t) => {
  const server = await serve(t, stream(message(1), { heartbeat_s: 0.1 }), stream());
  const { states } = open(t, server.url);
  assert.deepEqual(await states.reached(3), ["live hello", "connecting silent", "live hello"]);
  const waited_ms = server.requests[1].at - server.requests[0].at;
  assert.ok(waited_ms >= 240, `given up after ${waited_ms} ms`);
  assert.equal(server.requests[1].headers["last-event-id"], "e-1");
});

test("any byte keeps it open, a comment too", async (t) => {
  const comments = (request, response) => {
    stream("", { heartbeat_s: 1 })(request, response); // given up after 2.5 s of silence
    let left = 12;
    const ticking = setInterval(() => {
      if (left--) return response.write(":\n");
      clearInterval(ticking);
      response.end(message(1));
    }, 300);
  };
  const server = await serve(t, comments, stream());
  const { states } = open(t, server.url);
  assert.deepEqual(await states.reached(2), ["live hello", "connecting ended"]);
});

test("what comes twice is given once", async (t) => {
  const paid = (n) => frame("order.paid", n, `e-${n}`);
  const server = await serve(
    t,
    stream(message(1) + paid(2), { end: true }),
    stream(message(1) + paid(2) + paid(3) + message(4)),
  );
  const given = collector();
  const { notifier } = open(t, server.url, { onMessage: ({ id }) => given.add(id) });
  notifier.on("order.paid", (n) => given.add(n));
  assert.deepEqual(await given.reached(4), ["m1", 2, 3, "m4"]);
});

test("one message under two ids is given once", async (t) => {
  const twice = frame("message", { id: "m1" }, "e-1") + frame("message", { id: "m1" }, "e-2") + message(3);
  const server = await serve(t, stream(twice));
  const given = collector();
  open(t, server.url, { onMessage: ({ id }) => given.add(id) });
  assert.deepEqual(await given.reached(2), ["m1", "m3"]);
});

test("events without an id are never taken for repeats", async (t) => {
  const server = await serve(
    t,
    stream(
      message(1) + frame("blink", 1) + frame("blink", 1) + frame("task", { id: "t" }) + frame("task", { id: "t" }),
    ),
  );
  const given = collector();
  const { notifier } = open(t, server.url, { onTask: () => given.add("task") });
  notifier.on("blink", () => given.add("blink"));
  assert.deepEqual(await given.reached(4), ["blink", "blink", "task", "task"]);
});

test("a reset is given and its cursor taken", async (t) => {
  const reset = frame("reset", { reason: "history_trimmed", unread: 2, tasks: [] }, "f-9");
  const server = await serve(t, stream(message(1) + reset, { end: true }), stream("", { id: "f-9" }));
  const resets = collector();
  open(t, server.url, { onReset: ({ reason, unread }) => resets.add({ reason, unread }) });
  assert.equal((await server.nthRequest(2)).headers["last-event-id"], "f-9");
  assert.deepEqual(resets.values, [{ reason: "history_trimmed", unread: 2 }]);
});

test("degraded shows in the state and goes again", async (t) => {
  const server = await serve(t, stream(frame("degraded", { degraded: true }) + frame("degraded", { degraded: false })));
  const { states } = open(t, server.url);
  assert.deepEqual(await states.reached(3), ["live hello", "degraded broker", "live broker"]);
});

test("a character cut in two over chunks comes out whole", async (t) => {
  const bytes = Buffer.from(frame("message", { id: "m1", text: "Привет, €🚀" }, "e-1"));
  const piecewise = (request, response) => {
    stream()(request, response);
    response.socket.setNoDelay(true);
    let at = 0;
    const step = () => at < bytes.length && response.write(bytes.subarray(at, ++at), () => setImmediate(step));
    step();
  };
  const server = await serve(t, piecewise);
  const texts = collector();
  open(t, server.url, { onMessage: ({ text }) => texts.add(text) });
  assert.deepEqual(await texts.reached(1), ["Привет, €🚀"]);
});

test("an error in a listener is reported and harms neither the others nor the stream", async (t) => {
  const reported = t.mock.method(console, "error", () => {});
  const server = await serve(t, stream(message(1) + message(2)));
  const given = collector();
  const { notifier } = open(t, server.url, {
    onMessage: () => {
      throw new Error("a listener's own fault");
    },
  });
  notifier.on("message", ({ id }) => given.add(id));
  assert.deepEqual(await given.reached(2), ["m1", "m2"]);
  assert.equal(reported.mock.callCount(), 2);
  assert.equal(server.requests.length, 1);
});

test("data that is not JSON is given as it is", async (t) => {
  const server = await serve(t, stream("event: odd\ndata: {not json\n\n"));
  const given = collector();
  const { notifier } = open(t, server.url);
  notifier.on("odd", (data) => given.add(data));
  assert.deepEqual(await given.reached(1), ["{not json"]);
});

test("a listener that was taken off hears nothing more", async (t) => {
  const server = await serve(t, stream(message(1) + message(2)));
  const first = collector();
  const given = collector();
  const { notifier } = open(t, server.url);
  const off = notifier.on("message", ({ id }) => {
    first.add(id);
    off();
  });
  notifier.on("message", ({ id }) => given.add(id));
  await given.reached(2);
  assert.deepEqual(first.values, ["m1"]);
});

test("close ends the request, and nothing is heard after it, not even from the same bytes", async (t) => {
  const server = await serve(t, stream(message(1) + message(2)));
  const given = collector();
  const onMessage = ({ id }) => {
    given.add(id);
    notifier.close();
  };
  const { notifier, states } = open(t, server.url, { onMessage });
  const { response } = await server.nthRequest(1);
  await once(response, "close");
  assert.deepEqual(given.values, ["m1"]);
  assert.deepEqual(states.values, ["live hello", "offline closed final"]);
  assert.equal(notifier.state, "offline");
});

test("close while it waits ends the waiting", async (t) => {
  const server = await serve(t, cut);
  const { notifier, states } = open(t, server.url, {}, { random: 1 });
  await states.reached(1);
  notifier.close();
  assert.deepEqual(states.values, ["offline network", "offline closed final"]);
});
