/** Elements of a page that share grants: what is heard is what the page shows. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { watchPage } from "../../client/live.js";

/** A document of elements with attributes, a notifier that notes which handles are open, and the page that is watched. */
function pageOf(t) {
  const elements = new Set();
  const open = new Set();
  const works = new Set();
  const early = new Set(); // grants whose topics end before their handle is there
  let scan;
  let publish;
  const handles = new Map(); // options, by grant
  let onStale;
  const timers = [];
  const delays = [];
  t.mock.method(globalThis, "setTimeout", (run, ms) => {
    delays.push(ms);
    return timers.push(run);
  });
  t.mock.method(globalThis, "clearTimeout", (timer) => {
    if (timer) timers[timer - 1] = () => {};
  });
  globalThis.MutationObserver = class {
    constructor(run) {
      scan = run;
    }
    observe() {}
    disconnect() {}
  };
  globalThis.document = Object.assign(new EventTarget(), {
    querySelectorAll: (selector) => [...elements].filter(({ matches }) => matches(selector)),
    querySelector: (selector) => [...elements].find(({ matches }) => matches(selector)) ?? null,
  });
  t.after(() => {
    delete globalThis.document;
    delete globalThis.MutationObserver;
  });
  const notifier = {
    on(_, handler) {
      publish = handler;
      return () => {};
    },
    async topic(grant, options) {
      if (grant === "none" && !works.has(grant)) throw new Error("did not load");
      open.add(grant);
      handles.set(grant, options);
      ({ onStale } = options);
      if (early.has(grant)) options.onEnded(grant.split("+")[0].split(","), "refused");
      return { topics: grant.split("+")[0].split(","), close: () => open.delete(grant) };
    },
  };
  watchPage(notifier, async () => []);

  /** An element that shows topics; a grant is its topics, and after a plus sign what tells it from others. */
  function add(topics, grant) {
    const attributes = { "data-live-topic": topics, "data-live-grant": grant };
    const element = {
      localName: "div",
      told: 0,
      ended: [],
      isSettling: false,
      closest: (selector) => (selector === ".htmx-added" && element.isSettling ? element : null),
      get isConnected() {
        return elements.has(element);
      },
      getAttribute: (name) => attributes[name] ?? null,
      setAttribute: (name, value) => {
        attributes[name] = value;
      },
      matches(selector) {
        const [, name, value] = /^\[([\w-]+)(?:="(.*)")?\]$/.exec(selector) ?? [];
        return name !== undefined && attributes[name] !== undefined && attributes[name] === (value ?? attributes[name]);
      },
      dispatchEvent: ({ type, detail }) => {
        if (type === "live-ended") return element.ended.push(detail);
        element.told += 1;
        element.detail = detail;
        return true;
      },
    };
    elements.add(element);
    return element;
  }

  const told = (element, type) =>
    document.dispatchEvent(Object.defineProperty(new Event(type), "target", { value: element }));
  let grants = 0;
  const page = {
    add,
    open,
    works,
    early,
    remove: (element) => elements.delete(element),
    delays,
    hello: () => publish({ event: "hello", data: "{}" }),
    stale: (name, isDue) => onStale([name], isDue),
    endTopic: (name, reason = "denied", grant = name) => handles.get(grant).onEnded([name], reason),
    publish(topic) {
      publish({ event: "changed", data: JSON.stringify({ topic }) });
      page.wait();
    },
    /** All timers end. */
    wait() {
      for (const run of timers.splice(0)) run();
    },
    answer: (element) => told(element, "live-answered"),
    /** The fetch of an element has failed. */
    fail: (element) => told(element, "live-failed"),
    /** An element's fetch has an answer, by which a new element replaces it. */
    replace(element, cursor = "-") {
      told(element, "live-answered");
      return page.renew(element, cursor);
    },
    /** A new element in the place of another one. */
    async renew(element, cursor = "-") {
      elements.delete(element);
      const next = add("order:7", `order:7+${++grants}`);
      next.setAttribute("data-live-cursor", cursor);
      await page.opened();
      page.wait();
      return next;
    },
    async opened() {
      scan();
      for (let turn = 0; turn < 10; turn++) await Promise.resolve();
      return [...open];
    },
  };
  return page;
}

test("a topic is heard while an element shows it, also without the element that had its grant", async (t) => {
  const page = pageOf(t);
  const detail = page.add("order:7", "order:7,order:8");
  const row = page.add("order:7");
  assert.deepEqual(await page.opened(), ["order:7,order:8"]);
  page.remove(detail);
  assert.deepEqual(await page.opened(), ["order:7,order:8"]);
  page.publish("order:7");
  assert.deepEqual([detail.told, row.told], [0, 1]);
  page.remove(row);
  assert.deepEqual(await page.opened(), []);
});

test("an element that goes before its grant is open leaves it to the others", async (t) => {
  const page = pageOf(t);
  const detail = page.add("order:7", "order:7");
  const row = page.add("order:7");
  const opening = page.opened();
  page.remove(detail);
  await opening;
  assert.deepEqual(await page.opened(), ["order:7"]);
  page.remove(row);
  assert.deepEqual(await page.opened(), []);
});

test("a newer grant takes the place of those whose elements are gone", async (t) => {
  const page = pageOf(t);
  const row = page.add("order:7");
  for (const number of [1, 2, 3]) {
    const detail = page.add("order:7", `order:7+${number}`);
    assert.deepEqual(await page.opened(), [`order:7+${number}`]);
    page.remove(detail);
    assert.deepEqual(await page.opened(), [`order:7+${number}`]);
  }
  const list = page.add("order:7", "order:7+list");
  assert.deepEqual(await page.opened(), ["order:7+list"]);
  list.setAttribute("data-live-grant", "order:7+next");
  assert.deepEqual(await page.opened(), ["order:7+next"]);
  page.remove(list);
  assert.deepEqual(await page.opened(), ["order:7+next"]);
  page.remove(row);
  assert.deepEqual(await page.opened(), []);
});

test("an element that htmx has swapped in gets one `live` once htmx listens to it", async (t) => {
  const page = pageOf(t);
  const row = page.add("order:7", "order:7");
  await page.opened();
  row.isSettling = true;
  page.publish("order:7");
  page.publish("order:7");
  assert.equal(row.told, 0);
  row.isSettling = false;
  page.publish("order:7");
  assert.equal(row.told, 1);
  page.publish("order:7");
  assert.equal(row.told, 2);
});

test("what is shown no longer, or has ended, keeps no grant open", async (t) => {
  const page = pageOf(t);
  const detail = page.add("order:7", "order:7");
  const row = page.add("order:7");
  await page.opened();
  page.remove(detail);
  row.setAttribute("data-live-topic", "order:8");
  assert.deepEqual(await page.opened(), []);
  const next = page.add("order:8", "order:8");
  await page.opened();
  page.endTopic("order:8");
  page.remove(next);
  assert.deepEqual(await page.opened(), []);
});

test("elements of a topic that is heard no longer are told once, with the reason", async (t) => {
  const page = pageOf(t);
  const rows = [page.add("order:7", "order:7"), page.add("order:7", "order:7+1"), page.add("order:8", "order:8")];
  await page.opened();
  page.endTopic("order:7", "refused");
  assert.deepEqual(rows[0].ended, []); // the other grant has it
  page.endTopic("order:7", "refused", "order:7+1");
  page.endTopic("order:8", "expired");
  page.publish("");
  const ended = { topic: "order:7", reason: "refused" };
  assert.deepEqual(
    rows.map((row) => [row.ended, row.told]),
    [
      [[ended], 0],
      [[ended], 0],
      [[{ topic: "order:8", reason: "expired" }], 1],
    ],
  );
});

test("a grant that does not open is reported, and goes with its element", async (t) => {
  const reports = t.mock.method(console, "error", () => {});
  const page = pageOf(t);
  const row = page.add("order:7");
  const detail = page.add("order:7", "none");
  assert.deepEqual(await page.opened(), []);
  assert.equal(reports.mock.callCount(), 1);
  page.publish("order:7");
  assert.equal(row.told, 1); // the page listens while it has a grant
  page.remove(detail);
  await page.opened();
  page.publish("order:7");
  assert.equal(row.told, 1);
  const early = page.add("order:7", "none");
  const opening = page.opened();
  page.remove(early); // before it is known that its grant does not open
  await Promise.all([opening, page.opened()]);
  page.publish("order:7");
  assert.equal(row.told, 1);
  page.add("order:7", "order:7");
  assert.deepEqual(await page.opened(), ["order:7"]);
  page.publish("order:7");
  assert.equal(row.told, 2);
});

test("a grant that does not open is opened again after longer and longer pauses while its element is there", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const reports = t.mock.method(console, "error", () => {});
  const page = pageOf(t);
  page.add("order:7", "none");
  const gone = page.add("order:8", "none");
  await page.opened();
  page.remove(gone);
  await page.opened();
  for (let n = 0; n < 3; n++) {
    page.wait();
    await page.opened();
  }
  assert.deepEqual(page.delays, [2000, 2000, 4000, 8000, 16_000]);
  assert.equal(reports.mock.callCount(), 5);
  page.works.add("none");
  page.wait();
  assert.deepEqual(await page.opened(), ["none"]);
});

test("the next event tells a live element, too, that its grant is to be renewed", async (t) => {
  const page = pageOf(t);
  const row = page.add("order:7", "order:7");
  await page.opened();
  page.stale("order:7", true);
  page.publish("order:7");
  assert.deepEqual([row.told, row.detail.type, row.detail.isDue], [1, "changed", true]);
  page.publish("order:7");
  assert.ok(!row.detail.isDue);
});

test("a name that is no percent-encoding is taken as it is, and the others stay live", async (t) => {
  const page = pageOf(t);
  const sale = page.add("sale:50%");
  const row = page.add("order%207", "order 7");
  await page.opened();
  for (const name of ["order 7", "sale:50%"]) page.publish(name);
  assert.deepEqual([row.told, sale.told], [1, 1]);
});

/** A `<notifier-live>` without a DOM, and the requests that it sends. */
async function partOf(t, src) {
  const requests = [];
  globalThis.document = { baseURI: "http://site.test/orders/" };
  globalThis.location = { origin: "http://site.test" };
  globalThis.XMLHttpRequest = class {
    headers = {};
    status = 0; // no answer
    open() {}
    setRequestHeader(name, value) {
      this.headers[name] = value;
    }
    send() {
      requests.push(this);
    }
  };
  t.after(() => {
    for (const name of ["document", "location", "XMLHttpRequest"]) delete globalThis[name];
  });
  const { NotifierLive } = await import("../../client/widgets/live.js");
  const part = Object.assign(new NotifierLive(), {
    getAttribute: () => src,
    addEventListener() {},
    contains: () => false,
  });
  return { part, requests };
}

test("a part is fetched from its view, not from the browser's cache", async (t) => {
  const { part, requests } = await partOf(t, "7/");
  part.reload();
  assert.deepEqual(
    requests.map(({ headers }) => headers["Cache-Control"]),
    ["no-cache"],
  );
});

test("a part that is taken out and put back is fetched again, if it was being fetched", async (t) => {
  const { part, requests } = await partOf(t, "7/");
  part.connectedCallback();
  part.disconnectedCallback();
  part.connectedCallback();
  assert.equal(requests.length, 0);
  part.reload();
  part.disconnectedCallback();
  part.connectedCallback();
  part.isConnected = true;
  part.dispatchEvent = () => {};
  requests[0].onloadend();
  assert.equal(requests.length, 2);
});

test("a part without an address does not fetch the page into itself, and warns once", async (t) => {
  const warnings = t.mock.method(console, "warn", () => {});
  for (const src of [null, ""]) {
    const { part, requests } = await partOf(t, src);
    part.connectedCallback();
    part.reload();
    part.reload();
    assert.equal(requests.length, 0);
  }
  assert.equal(warnings.mock.callCount(), 2);
});

test("a reset of an open stream, which all pages get together, is a fetch within two seconds; of a new stream at once", async (t) => {
  t.mock.method(Math, "random", () => 0.5);
  t.mock.timers.enable({ apis: ["Date"], now: 1_000_000 });
  const page = pageOf(t);
  const row = page.add("order:7", "order:7");
  await page.opened();
  page.hello();
  page.stale("order:7", "reset");
  page.publish("order:7");
  t.mock.timers.tick(60_000);
  page.stale("order:7", "reset");
  page.publish("order:7");
  page.stale("order:7");
  page.publish("order:7");
  assert.deepEqual(page.delays, [0, 1000, 0]);
  assert.deepEqual([row.told, row.detail.isDue ?? false], [3, false]);
});

test("the client repeats the failed fetch of a live part, with growing pauses, until the part is fetched or removed", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const page = pageOf(t);
  const row = page.add("order:7", "order:7");
  await page.opened();
  page.fail(row); // a fetch of its own, not by an event
  page.stale("order:7", true);
  page.wait();
  for (let n = 0; n < 7; n++) {
    page.fail(row);
    page.wait();
  }
  assert.deepEqual(page.delays, [0, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  assert.deepEqual([row.told, row.detail.type, row.detail.isDue], [8, "stale", true]);
  page.wait();
  assert.equal(row.told, 8); // the last fetch has not failed
  page.fail(row);
  page.remove(row);
  page.wait();
  assert.equal(row.told, 8);
});

test("a change or a new stream ends the pause of a part whose fetch has failed", async (t) => {
  t.mock.method(Math, "random", () => 1);
  const page = pageOf(t);
  const row = page.add("order:7", "order:7");
  await page.opened();
  page.stale("order:7", true);
  page.wait();
  page.fail(row);
  page.publish("order:7");
  assert.deepEqual([row.told, row.detail.type, row.detail.isDue], [2, "changed", true]);
  page.fail(row);
  page.hello();
  page.wait();
  assert.equal(row.told, 3);
  page.stale("order:7");
  page.fail(row); // of the fetch before
  page.wait();
  assert.equal(row.told, 4);
  assert.deepEqual(page.delays, [0, 2000, 0, 2000, 0, 0]);
});

test("an event that went with an element that shows people, which fetches nothing, fetches no part again", async (t) => {
  const page = pageOf(t);
  const part = page.add("order:7", "order:7");
  part.setAttribute("data-live-cursor", "-");
  const people = page.add("order:7", "order:7+people");
  people.localName = "notifier-presence";
  people.show = () => {};
  await page.opened();
  page.publish("order:7");
  page.answer(part);
  page.remove(people); // the answer has another one
  await page.opened();
  page.wait();
  assert.deepEqual([part.told, people.told], [1, 1]);
});

test("an element that shows people keeps its handle until it shows those of its next grant", async (t) => {
  const page = pageOf(t);
  const people = page.add("order:7", "order:7");
  people.localName = "notifier-presence";
  const shown = [];
  people.show = ({ topics }) => shown.push([...topics, ...page.open]);
  const settled = async () => {
    await page.opened();
    await import("../../client/widgets/presence.js");
    return page.opened();
  };
  await settled();
  people.setAttribute("data-live-grant", "order:7+next");
  assert.deepEqual(await settled(), ["order:7+next"]);
  assert.deepEqual(shown, [
    ["order:7", "order:7"],
    ["order:7", "order:7", "order:7+next"],
  ]);
  page.remove(people);
  assert.deepEqual(await page.opened(), []);
});

test("a part whose view fails for long is fetched again each minute, in a hidden tab once the user looks at it", async (t) => {
  const page = pageOf(t);
  const row = page.add("order:7", "order:7");
  await page.opened();
  const told = () => {
    page.wait();
    return row.told;
  };
  page.stale("order:7");
  for (let times = 1; times <= 20; times++) {
    assert.equal(told(), times);
    page.fail(row);
  }
  const [delay] = page.delays.slice(-1);
  assert.ok(delay >= 30_000 && delay <= 60_000, `${delay}`);
  document.hidden = true;
  assert.equal(told(), 21);
  page.fail(row);
  const look = () => document.dispatchEvent(new Event("visibilitychange"));
  look();
  assert.equal(told(), 21);
  document.hidden = false;
  look();
  assert.equal(told(), 22);
});

test("a fetch for the next grant that fails is repeated as such, also after a change meanwhile", async (t) => {
  const page = pageOf(t);
  const row = page.add("order:7", "order:7");
  await page.opened();
  page.stale("order:7", true);
  page.wait();
  page.publish("order:7");
  assert.equal(row.detail.isDue ?? false, false);
  page.fail(row);
  page.wait();
  assert.deepEqual([row.told, row.detail.isDue], [3, true]);
  row.setAttribute("data-live-grant", "order:7+next");
  await page.opened();
  page.fail(row);
  page.wait();
  assert.deepEqual([row.told, row.detail.isDue], [4, false]);
});

test("a live part gets live-ended for a topic that an earlier grant of the page could not open", async (t) => {
  const page = pageOf(t);
  page.early.add("order:7+early");
  page.add("order:7", "order:7+early");
  await page.opened();
  const row = page.add("order:7", "order:7");
  await page.opened();
  page.endTopic("order:7", "refused");
  assert.deepEqual(row.ended.at(-1), { topic: "order:7", reason: "refused" });
});

test("an element that an answer without a cursor replaces hands on the events that came during its fetch", async (t) => {
  const page = pageOf(t);
  let row = await page.renew();
  page.publish("order:7");
  row = await page.replace(row);
  assert.equal(row.told, 0); // the answer is newer than the event
  page.publish("order:7");
  page.publish("order:7");
  row = await page.replace(row);
  assert.deepEqual([row.told, row.detail], [1, { topic: "order:7", type: "stale" }]);
  page.publish("order:7");
  row = await page.replace(row);
  assert.equal(row.told, 1);
  row = await page.replace(row);
  assert.equal(row.told, 0);
  page.publish("order:7");
  page.publish("order:7");
  row = await page.replace(row, "e-7"); // by it the topic knows what is old
  assert.equal(row.told, 0);
});

test("an element that goes before its fetch begins, or has an answer, hands its event on once", async (t) => {
  const page = pageOf(t);
  let row = await page.renew();
  const other = page.add("order:8");
  page.stale("order:7"); // its timer has not ended
  row = await page.renew(row);
  assert.equal(row.told, 1);
  row = await page.renew(row);
  assert.equal(row.told, 0); // a script that answers by itself would be asked for ever
  page.publish("order:7");
  row = await page.renew(row);
  assert.deepEqual([row.told, other.told], [1, 0]);
  page.publish("order:7");
  row = await page.renew(row);
  assert.equal(row.told, 1);
  page.fail(row);
  row = await page.renew(row);
  assert.equal(row.told, 1);
});

test("people that cannot be shown are reported, and their handle ends with the element", async (t) => {
  const reports = t.mock.method(console, "error", () => {});
  const page = pageOf(t);
  const people = page.add("order:7", "order:7");
  people.localName = "notifier-presence";
  people.show = () => {
    throw new Error("no texts");
  };
  await page.opened();
  await import("../../client/widgets/presence.js");
  await page.opened();
  page.remove(people);
  await page.opened();
  assert.deepEqual(await page.opened(), []);
  assert.equal(reports.mock.callCount(), 1);
});
