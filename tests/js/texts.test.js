/** Times that are left, as people say them. */

import assert from "node:assert/strict";
import { test } from "node:test";

import ru from "../../client/i18n/ru.js";
import { howFar, useTexts } from "../../client/widgets/texts.js";

const task = { percent: 40, done: 4, status: "running", ended_at: null };

test("the time that is left has a unit of its size, and is never shorter than it is", () => {
  for (const [eta_s, words] of [
    [0.2, "1 sec left"],
    [89, "89 sec left"],
    [90, "2 min left"],
    [88 * 60, "88 min left"],
    [91 * 60, "2 hr left"],
  ])
    assert.equal(howFar({ ...task, eta_s }), `40% · ${words}`);
});

test("no time is shown where none was measured, while a task waits, and after its end", () => {
  for (const change of [{ eta_s: 0 }, { eta_s: null }, { status: "waiting" }, { ended_at: "2026-01-31T12:00:00Z" }])
    assert.equal(howFar({ ...task, eta_s: 60, ...change }), "40%");
  assert.equal(howFar({ ...task, percent: null, eta_s: null }), "4 so far");
});

test("the page's language has its own units", (t) => {
  useTexts(ru);
  t.after(() => useTexts());
  assert.match(howFar({ ...task, eta_s: 88 * 60 }), /88\s*мин/);
});
