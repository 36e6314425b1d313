/** The token: one request at a time, renewed before its end, dropped when refused. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createTokens, subjectOf } from "../../client/token.js";

/** A JWT as the service reads it, unsigned. */
function jwt(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part(claims)}.c2lnbmF0dXJl`;
}

/** Numbered answers and how often they were asked for. */
function source(t, answer = (n) => `t${n}`, first) {
  const asked = { times: 0 };
  const tokens = createTokens(first, async () => answer(++asked.times));
  t.after(() => tokens.close());
  return { asked, tokens };
}

test("callers at the same time share one request", async (t) => {
  const { asked, tokens } = source(t);
  assert.deepEqual(await Promise.all([tokens.get(), tokens.get(), tokens.get()]), ["t1", "t1", "t1"]);
  assert.equal(await tokens.get(), "t1");
  assert.equal(asked.times, 1);
});

test("a refused token is replaced once, however many saw it refused", async (t) => {
  const { asked, tokens } = source(t);
  const bad = await tokens.get();
  tokens.refuseToken(bad);
  assert.equal(await tokens.get(), "t2");
  tokens.refuseToken(bad);
  assert.equal(await tokens.get(), "t2");
  assert.equal(asked.times, 2);
});

test("a token is renewed by itself shortly before it ends", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_700_000_000_000 });
  const { asked, tokens } = source(t, (n) => ({ token: `t${n}`, expires_in: 1000 }));
  await tokens.get();
  t.mock.timers.tick(939_000);
  assert.equal(asked.times, 1);
  t.mock.timers.tick(1_000);
  await Promise.resolve();
  assert.equal(asked.times, 2);
});

test("the life of a JWT is read from it, whatever the page's clock says", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 4_000_000_000_000 });
  const first = jwt({ sub: "42", name: "Аня", iat: 1_700_000_000, exp: 1_700_000_100 });
  const { asked, tokens } = source(t, () => "next", first);
  assert.equal(await tokens.get(), first);
  t.mock.timers.tick(89_000);
  assert.equal(asked.times, 0);
  t.mock.timers.tick(1_000);
  assert.equal(await tokens.get(), "next");
});

test("a page that was a while on its way has so much less of its token's life", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_700_000_030_000 });
  const { asked } = source(t, () => "next", jwt({ iat: 1_700_000_000, exp: 1_700_000_100 }));
  t.mock.timers.tick(62_000);
  assert.equal(asked.times, 0);
  t.mock.timers.tick(1_000);
  await Promise.resolve();
  assert.equal(asked.times, 1);
});

test("a renewal ahead of time that fails leaves the old token in use", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 1_700_000_000_000 });
  const { tokens } = source(
    t,
    () => {
      throw new Error("away");
    },
    jwt({ iat: 0, exp: 100 }),
  );
  t.mock.timers.tick(95_000);
  assert.match(await tokens.get(), /^ey/);
  tokens.refuseToken();
  await assert.rejects(tokens.get(), /away/);
});

test("a request for a token that hangs is given up by the next caller", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 1_700_000_000_000 });
  const { asked, tokens } = source(t, (n) => (n === 1 ? new Promise(() => {}) : `t${n}`));
  void tokens.get();
  await Promise.resolve();
  t.mock.timers.tick(31_000);
  assert.equal(await tokens.get(), "t2");
  assert.equal(asked.times, 2);
});

test("a token that lives for years starts no timer that fires at once", async (t) => {
  const { asked, tokens } = source(t, (n) => ({ token: `t${n}`, expires_in: 10 ** 9 }));
  await tokens.get();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(await tokens.get(), "t1");
  assert.equal(asked.times, 1);
});

test("an opaque token is kept until it is refused", async (t) => {
  const { asked, tokens } = source(t, (n) => `t${n}`, "opaque.not-json.x");
  assert.equal(await tokens.get(), "opaque.not-json.x");
  assert.equal(asked.times, 0);
});

test("nothing is renewed after close", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_700_000_000_000 });
  const { asked, tokens } = source(t, () => "next", jwt({ iat: 0, exp: 100 }));
  tokens.close();
  t.mock.timers.tick(200_000);
  await Promise.resolve();
  assert.equal(asked.times, 0);
});

test("a token tells whose it is: users and groups differ, what is no JWT tells nothing", () => {
  const [ann, bob, staff] = [{ sub: "ann" }, { sub: "bob" }, { sub: "ann", groups: ["staff"] }].map((claims) =>
    subjectOf(jwt(claims)),
  );
  assert.equal(new Set([ann, bob, staff]).size, 3);
  assert.equal(subjectOf(jwt({ sub: "ann", exp: 1, iat: 0 })), ann);
  for (const none of ["", undefined, "opaque", "a.b.c", jwt({}), jwt(null)]) assert.equal(subjectOf(none), "");
});
