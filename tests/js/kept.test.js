/**
 * Lists that are kept on the device: read once, until this page or another tab changes them.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

const storage = new Map();
let reads = 0;
globalThis.localStorage = {
  getItem(name) {
    reads += 1;
    return storage.get(name) ?? null;
  },
  setItem: (name, value) => storage.set(name, value),
};
const page = new EventTarget();
globalThis.addEventListener = page.addEventListener.bind(page);

const { keep, kept } = await import("../../client/widgets/kept.js");

test("a list is read once, and again after a change of this page or of another tab", () => {
  keep("archived", ["a"], true);
  keep("archived", ["b"], true);
  reads = 0;
  for (let draw = 0; draw < 100; draw++) assert.deepEqual([...kept("archived")], ["a", "b"]);
  assert.equal(reads, 1);
  keep("archived", ["a"], false);
  assert.deepEqual([...kept("archived")], ["b"]);
  storage.set("notifier archived", '["c"]');
  page.dispatchEvent(new Event("storage"));
  assert.deepEqual([...kept("archived")], ["c"]);
});

test("an entry is added to what another tab has stored meanwhile", () => {
  kept("muted");
  storage.set("notifier muted", '["theirs"]'); // its event is not there yet
  keep("muted", ["ours"], true);
  assert.deepEqual([...kept("muted")], ["theirs", "ours"]);
});

test("what is no list is empty", () => {
  storage.set("notifier broken", "7");
  assert.deepEqual([...kept("broken")], []);
});
