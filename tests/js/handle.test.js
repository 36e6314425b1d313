/** A handle that is open for hours does not keep what has ended. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { grant, service } from "./topic_service.js";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc");

test("a handle keeps no handler that has ended, by itself or with the handle", { timeout: 20_000 }, async (t) => {
  const { notifier } = await service(t, () => ({ topics: ["a"], cursor: "e-5", stale: [] }));
  let handle = await notifier.topic(grant(["a"]));
  const handlers = [];
  const listen = (how) => {
    const handler = () => how;
    handlers.push(new WeakRef(handler));
    return how === "presence" ? handle.presence(handler) : handle.on("order.paid", handler);
  };
  const isKept = () => handlers.map((each) => each.deref() !== undefined);
  const ended = async (...expected) => {
    while (!t.signal.aborted && String(isKept()) !== String(expected)) {
      await new Promise(setImmediate); // a WeakRef holds its target until the end of the turn
      collectGarbage();
    }
    assert.deepEqual(isKept(), expected);
  };
  for (const how of ["on", "presence"]) listen(how)();
  for (const how of ["on", "presence"]) listen(how);
  await ended(false, false, true, true);
  handle.close();
  handle = null;
  await ended(false, false, false, false);
});
