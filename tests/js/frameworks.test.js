/** Answers to the fetches of htmx and Turbo for live parts: which are swapped in. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { watchFrameworks } from "../../client/frameworks.js";

const SITE = "http://site.test";

/** A document whose frameworks dispatch events; `live`: what has caused the fetch of a part. */
function pageOf(t) {
  const document = Object.assign(new EventTarget(), { baseURI: `${SITE}/orders/` });
  globalThis.document = document;
  t.after(() => {
    delete globalThis.document;
    delete globalThis.htmx;
  });
  const reload = watchFrameworks();
  const part = Object.assign(new EventTarget(), { failures: 0, closest: () => null });
  part.addEventListener("live-failed", () => part.failures++);
  const live = Object.defineProperty(new Event("live"), "target", { value: part });
  function dispatch(type, detail, target = part) {
    const errors = [];
    const report = (error) => errors.push(error);
    process.once("uncaughtException", report); // of a listener
    const event = Object.assign(new Event(type, { cancelable: true }), { detail });
    Object.defineProperty(event, "target", { value: target });
    document.dispatchEvent(event);
    return new Promise((resolve) =>
      setTimeout(() => {
        process.off("uncaughtException", report);
        assert.deepEqual(errors, []);
        resolve(event);
      }),
    );
  }
  return { part, live, dispatch, reload };
}

/** A frame of Turbo that has been reloaded by an event, and whether it takes this answer. */
async function frameTakes(t, src, response) {
  const { dispatch, reload, part } = pageOf(t);
  const frame = Object.assign(part, { src: SITE + src });
  const requests = [];
  frame.reload = () =>
    requests.push(
      dispatch("turbo:before-fetch-request", { fetchOptions: { signal: new AbortController().signal } }, frame),
    );
  reload(frame);
  await Promise.all(requests);
  const { defaultPrevented } = await dispatch("turbo:before-fetch-response", { fetchResponse: { response } }, frame);
  return !defaultPrevented;
}

const answer = (path, redirected = false, status = 200) => ({ url: SITE + path, redirected, status });

test("a frame takes the answer to its address as Turbo writes it, and of a redirect only its own", async (t) => {
  const warnings = t.mock.method(console, "warn", () => {});
  const check = (...args) => t.test("", (step) => frameTakes(step, ...args).then((taken) => results.push(taken)));
  const results = [];
  await check("/row/?next=/a/&flag", answer("/row/?next=%2Fa%2F&flag="));
  await check("/row/?q=a%20b", answer("/row/?q=a+b&_=7"));
  await check("/row", answer("/row/", true));
  await check("/row/", answer("/login/?next=/row/", true));
  assert.deepEqual(results, [true, true, true, false]);
  assert.equal(warnings.mock.callCount(), 1);
  for (const url of [`${SITE}/row/`, `${SITE}/login/?next=/row/`])
    assert.ok(warnings.mock.calls[0].arguments[0].includes(url));
});

test("htmx 4 swaps in the answer to an address that the page has changed, and no redirect to another", async (t) => {
  t.mock.method(console, "warn", () => {});
  const { dispatch, live } = pageOf(t);
  const swaps = async (raw) => {
    const ctx = { sourceEvent: live, request: { action: "/row/" }, response: { raw, status: raw.status } };
    return !(await dispatch("htmx:before:swap", { ctx })).defaultPrevented;
  };
  assert.equal(await swaps(answer("/row/?_=7")), true);
  assert.equal(await swaps(answer("/login/", true)), false);
});

test("an event that htmx 4 sends again in the name of htmx 2 is left to htmx 4", async (t) => {
  const { dispatch, live } = pageOf(t);
  await dispatch("htmx:beforeSwap", { ctx: { sourceEvent: live }, tasks: [] });
});

test("htmx 2 takes the answer of the address with its last slash", async (t) => {
  t.mock.method(console, "warn", () => {});
  const { dispatch, live } = pageOf(t);
  const swaps = async (responseURL) => {
    const detail = { requestConfig: { triggeringEvent: live }, pathInfo: { finalRequestPath: "/row?a=1" } };
    await dispatch("htmx:beforeSwap", Object.assign(detail, { xhr: { responseURL, status: 200 }, shouldSwap: true }));
    return detail.shouldSwap;
  };
  assert.equal(await swaps(`${SITE}/row/?a=1`), true);
  assert.equal(await swaps(`${SITE}/row/?a=2`), false);
});

test("a fetch of htmx ends after 15 seconds, unless the page says when", async (t) => {
  const { dispatch, live, part } = pageOf(t);
  const timeoutOf = async (detail) => {
    await dispatch("htmx:configRequest", Object.assign(detail, { elt: part, triggeringEvent: live }));
    return detail.timeout;
  };
  assert.equal(await timeoutOf({ timeout: 0 }), 15_000);
  assert.equal(await timeoutOf({ timeout: 7 }), 7);
  part.closest = (selector) => (selector === '[hx-request*="timeout"]' ? part : null);
  assert.equal(await timeoutOf({ timeout: 0 }), 0);
  const timeoutOf4 = async (request) => {
    await dispatch("htmx:config:request", { ctx: { sourceEvent: live, request } });
    return request.timeout;
  };
  assert.equal(await timeoutOf4({}), 15_000);
  assert.equal(await timeoutOf4({ timeout: 7 }), 7);
  globalThis.htmx = { config: { defaultTimeout: 60_000 } };
  assert.equal(await timeoutOf4({}), 15_000);
  globalThis.htmx.config.defaultTimeout = 5000; // the page's
  assert.equal(await timeoutOf4({}), undefined);
});
