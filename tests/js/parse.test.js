/** The parser against the golden streams of tests/wire, which the Python tests read too. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { createParser } from "../../client/parse.js";

const FOLDER = new URL("../wire/", import.meta.url);
const VECTORS = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".json"))
  .map((name) => JSON.parse(readFileSync(new URL(name, FOLDER), "utf8")));

/** What comes out of pieces of bytes. */
function parsed(pieces) {
  const result = { events: [] };
  const push = createParser(
    (event) => result.events.push(event),
    (ms) => (result.retry = ms),
  );
  for (const piece of pieces) push(piece);
  return result;
}

function expected({ events, retry }) {
  return retry === undefined ? { events } : { events, retry };
}

function bytesOf({ text, bytes_base64 }) {
  return bytes_base64 === undefined
    ? new TextEncoder().encode(text)
    : new Uint8Array(Buffer.from(bytes_base64, "base64"));
}

test("there are golden streams to read", () => assert.ok(VECTORS.length >= 20));

for (const vector of VECTORS) {
  const bytes = bytesOf(vector);

  test(`${vector.name}: whole`, () => assert.deepEqual(parsed([bytes]), expected(vector)));

  test(`${vector.name}: byte by byte, with empty pieces`, () => {
    const pieces = [...bytes].flatMap((byte) => [new Uint8Array(0), Uint8Array.of(byte)]);
    assert.deepEqual(parsed(pieces), expected(vector));
  });

  test(`${vector.name}: cut in two at every place`, () => {
    for (let at = 1; at < bytes.length; at++) {
      assert.deepEqual(parsed([bytes.subarray(0, at), bytes.subarray(at)]), expected(vector), `cut at byte ${at}`);
    }
  });
}

test("an event that ends in CR CR is given at once and its LF makes no second one", () => {
  const events = [];
  const parse = createParser((event) => events.push(event.data));
  const push = (text) => parse(new TextEncoder().encode(text));
  push("data: a\r\n\r");
  assert.deepEqual(events, ["a"]);
  push("\n");
  push("data: b\r\n\r\n");
  assert.deepEqual(events, ["a", "b"]);
});

test("a stream that goes on from a cursor keeps it until the first id", () => {
  const ids = [];
  const push = createParser((event) => ids.push(event.id), undefined, "e-5");
  push(new TextEncoder().encode("data: a\n\nid: e-6\ndata: b\n\n"));
  assert.deepEqual(ids, ["e-5", "e-6"]);
});
