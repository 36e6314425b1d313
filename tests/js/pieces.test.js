/**
 * The output of a task as a reader has it: in 1,000 interrupted runs, every character once and in its place.
 *
 * A run has a writer, a stream that loses, repeats, joins and delays pieces, and calls that fail. Its choices follow from
 * its number alone.
 */

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { createPieces } from "../../client/widgets/pieces.js";

const RUNS = 1000;
const WORDS = ["a", "\n", "é", "👨‍👩‍👧", "e\u0301", "42 rows\n", "\u2028", "<b>", " "];

/** Numbers below 1 that depend on the seed only (mulberry32). */
function randomOf(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Lets all that is due happen, and the timers of repeats. */
async function settle() {
  for (let n = 0; n < 4; n++) {
    for (let turn = 0; turn < 8; turn++) await Promise.resolve();
    mock.timers.tick(2000);
  }
  for (let turn = 0; turn < 8; turn++) await Promise.resolve();
}

async function run(seed) {
  const random = randomOf(seed);
  const pieces = []; // what the service has
  let shown = "";
  const read = async (after) => {
    if (random() < 0.3) throw new Error("interrupted");
    const before = { n: pieces.length, text: pieces.slice(after).join(""), truncated: false };
    if (random() < 0.5) await Promise.resolve(); // the answer is older than events that arrive with it
    return before;
  };
  const reader = createPieces(
    read,
    (text) => {
      shown += text;
    },
    () => {
      shown = "";
    },
  );
  let delayed = [];
  for (let step = 0; step < 40; step++) {
    pieces.push(WORDS[Math.floor(random() * WORDS.length)].repeat(1 + Math.floor(random() * 3)));
    const n = pieces.length;
    const chance = random();
    if (chance < 0.5) reader.receive({ id: "t", n, text: pieces[n - 1] });
    else if (chance < 0.6) delayed.push({ id: "t", n, text: pieces[n - 1] });
    else if (chance < 0.75) {
      const from = Math.max(1, n - Math.floor(random() * 5)); // joined for a slow reader
      reader.receive({ id: "t", n, from, text: pieces.slice(from - 1).join("") });
    } else if (chance < 0.85) reader.expect(n); // a snapshot
    if (random() < 0.2) {
      for (const piece of delayed) reader.receive(piece); // late, or again
      if (random() < 0.5) delayed = [];
    }
    if (random() < 0.4) await Promise.resolve();
  }
  for (let tries = 0; tries < 50 && shown !== pieces.join(""); tries++) {
    reader.expect(pieces.length); // the snapshot of the next stream
    await settle();
  }
  reader.close();
  return [shown, pieces.join("")];
}

test(`no character is wrong in ${RUNS} interrupted runs`, async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    for (let seed = 1; seed <= RUNS; seed++) {
      const [shown, written] = await run(seed);
      assert.equal(shown, written, `run ${seed}`);
    }
  } finally {
    mock.timers.reset();
  }
});

test("a service that lost its data is read from the beginning", async () => {
  let shown = "";
  let stored = ["a", "b"];
  const read = async (after) => ({ n: stored.length, text: stored.slice(after).join(""), truncated: false });
  const reader = createPieces(
    read,
    (text) => {
      shown += text;
    },
    () => {
      shown = "";
    },
  );
  reader.expect(2);
  for (let turn = 0; turn < 8; turn++) await Promise.resolve();
  assert.equal(shown, "ab");
  stored = ["new"];
  reader.receive({ id: "t", n: 7, text: "hole" });
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  assert.equal(shown, "new");
  reader.close();
});

test("after the service lost its data, a lower number is read at once and the old text goes", async () => {
  let pieces = ["old 1\n", "old 2\n", "old 3\n"];
  let shown = "";
  let reads = 0;
  const reader = createPieces(
    async (after) => {
      reads += 1;
      return { n: pieces.length, text: pieces.slice(after).join(""), truncated: false };
    },
    (text) => {
      shown += text;
    },
    () => {
      shown = "";
    },
  );
  reader.expect(1);
  await settled();
  reader.expect(1); // each change of the store repeats what it knows
  await settled();
  assert.deepEqual([shown, reads], ["old 1\nold 2\nold 3\n", 1]);
  pieces = ["new 1\n", "new 2\n"];
  reader.expect(2);
  await settled();
  assert.equal(shown, "new 1\nnew 2\n");
  reader.close();
});

/** A reader whose reads fail with this status until `state.fails` is false. */
function refused(status) {
  const state = { reads: 0, fails: true };
  const reader = createPieces(
    async (after) => {
      state.reads += 1;
      if (state.fails) throw Object.assign(new Error("refused"), { status });
      return { n: after + 1, text: "a", truncated: false };
    },
    () => {},
    () => {},
  );
  return { reader, state };
}

test("a read that is refused is repeated by the next event only", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    for (const status of [403, 404]) {
      const { reader, state } = refused(status);
      reader.expect(1);
      await settled();
      mock.timers.tick(3_600_000);
      await settled();
      assert.equal(state.reads, 1, `${status}`);
      reader.receive({ id: "t", n: 2, text: "b" });
      await settled();
      assert.equal(state.reads, 2);
      reader.close();
    }
  } finally {
    mock.timers.reset();
  }
});

test("a read that fails is repeated after longer and longer pauses", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    for (const status of [undefined, 401, 429, 503]) {
      const { reader, state } = refused(status); // undefined: no answer
      reader.expect(1);
      await settled();
      for (const longestMs of [2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
        const before = state.reads;
        mock.timers.tick(longestMs / 2 - 1);
        await settled();
        assert.equal(state.reads, before, `${status}: too early`);
        mock.timers.tick(longestMs / 2 + 1);
        await settled();
        assert.equal(state.reads, before + 1, `${status}: too late`);
      }
      state.fails = false;
      mock.timers.tick(60_000);
      await settled();
      const { reads } = state;
      mock.timers.tick(3_600_000);
      await settled();
      assert.equal(state.reads, reads, "it has all");
      reader.close();
    }
  } finally {
    mock.timers.reset();
  }
});

test("a retry keeps the shown text and reads what follows it; the widget hears at once that a read has begun", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    let kept = ["a", "b"];
    let isOffline = false;
    let shown = "";
    const states = [];
    const reader = createPieces(
      async (after) => {
        if (isOffline) throw new Error("offline");
        return { n: after + kept.length, text: kept.join(""), truncated: false };
      },
      (text) => {
        shown += text;
      },
      () => {
        shown = "";
      },
      (isLoaded, hasFailed) => states.push(isLoaded ? "read" : hasFailed ? "failed" : "begun"),
    );
    reader.expect(2);
    await settled();
    isOffline = true;
    reader.expect(4);
    await settled();
    mock.timers.tick(2000);
    await settled();
    assert.deepEqual(states.splice(0), ["begun", "read", "failed"]);
    reader.retry();
    assert.deepEqual(states.splice(0), ["begun"], "before the read is done");
    await settled();
    assert.equal(shown, "ab");
    mock.timers.tick(2000); // the first repeat after a retry comes as early as after a first read
    await settled();
    assert.deepEqual([shown, ...states.splice(0)], ["ab", "failed"]);
    [kept, isOffline] = [["c", "d"], false]; // the service keeps "a" and "b" no longer
    reader.retry();
    await settled();
    assert.deepEqual([shown, ...states], ["abcd", "begun", "read"]);
    reader.close();
  } finally {
    mock.timers.reset();
  }
});

async function settled() {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}
