/** The connection in a page: the browser's EventSource, and the events that wake a page up. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { EventSource } from "eventsource";

import { message, open } from "./client.js";
import { collector, cut, frame, serve, status, stream } from "./server.js";

/** Gives the process a page's EventSource and wake-up events for one test. */
function likePage(t) {
  const page = new EventTarget();
  const sources = [];
  globalThis.EventSource = class extends EventSource {
    constructor(url, init) {
      super(url, init);
      sources.push(this);
    }
  };
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.document = Object.assign(new EventTarget(), { hidden: false });
  t.after(() => {
    for (const name of ["EventSource", "addEventListener", "document"]) delete globalThis[name];
  });
  return { page, sources };
}

test("without a token the browser's EventSource is used, and the cursor goes in the query of the next one", async (t) => {
  const { sources } = likePage(t);
  const server = await serve(t, stream(message(1) + frame("order.paid", 5, "e-2"), { end: true }), stream(message(3)));
  const given = collector();
  const { notifier } = open(t, server.url, { token: undefined, onMessage: ({ id }) => given.add(id) });
  notifier.on("order.paid", (n) => given.add(n));
  assert.deepEqual(await given.reached(3), ["m1", 5, "m3"]);
  assert.deepEqual(
    server.requests.map(({ url }) => url),
    ["/v1/stream", "/v1/stream?last_event_id=e-2"],
  );
  assert.equal(sources.length, 2);
  assert.equal(sources[0].withCredentials, true);
});

test("an EventSource that is refused gives way to fetch, which sees why", async (t) => {
  const { sources } = likePage(t);
  const server = await serve(t, status(204));
  const { states } = open(t, server.url, { token: undefined });
  assert.deepEqual(await states.reached(1), ["offline stopped final"]);
  assert.equal(sources.length, 1);
  assert.equal(server.requests.length, 2);
});

test("a page that is shown again does not wait out its own backoff", async (t) => {
  const { page } = likePage(t);
  const server = await serve(t, cut, stream());
  const { states } = open(t, server.url, {}, { random: 1 });
  await states.reached(1);
  page.dispatchEvent(new Event("visibilitychange")); // it bubbles there from the document
  assert.deepEqual(await states.reached(2), ["offline network", "live hello"]);
});

test("a page that is shown again does wait out what the server asked for", async (t) => {
  const { page } = likePage(t);
  const server = await serve(t, stream(frame("bye", { reason: "drain", retry_ms: 400 })), stream());
  const { states } = open(t, server.url);
  await states.reached(2);
  page.dispatchEvent(new Event("visibilitychange")); // it bubbles there from the document
  const second = await server.nthRequest(2);
  assert.ok(second.at - server.requests[0].at >= 390);
});

test("a page that is shown again finds at once that its open stream is silent for over 2.5 heartbeats", async (t) => {
  const { page } = likePage(t);
  const server = await serve(t, stream(message(1)), stream("", { id: "e-1" }));
  const given = collector();
  open(t, server.url, { onMessage: given.add });
  await given.reached(1);
  const now = Date.now();
  t.mock.method(Date, "now", () => now + 2.4 * 15_000);
  page.dispatchEvent(new Event("visibilitychange"));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(server.requests.length, 1);
  Date.now.mock.mockImplementation(() => now + 2.6 * 15_000);
  page.dispatchEvent(new Event("visibilitychange"));
  assert.equal((await server.nthRequest(2)).headers["last-event-id"], "e-1");
});

test("the network is back: an open stream is opened anew from its cursor", async (t) => {
  const { page } = likePage(t);
  const server = await serve(t, stream(message(1)), stream("", { id: "e-1" }));
  const given = collector();
  open(t, server.url, { onMessage: given.add });
  await given.reached(1);
  page.dispatchEvent(new Event("online"));
  assert.equal((await server.nthRequest(2)).headers["last-event-id"], "e-1");
});
