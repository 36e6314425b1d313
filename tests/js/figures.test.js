/** The console's figures: states, rates, and the channels with the most streams. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createSamples, stateOf, topChannels } from "../../client/console/figures.js";

const well = { draining: false, ready: true, broker: "ok" };
const at = (second) => new Date(Date.UTC(2026, 0, 31, 12, 0, second)).toISOString();
const told = (process, up_ms, counts = {}) => ({ process, up_ms, streams: 0, deliveries: 0, publishes: 0, ...counts });

test("the state of a process is the gravest that holds", () => {
  for (const [change, state] of [
    [{}, "ready"],
    [{ broker: "degraded" }, "degraded"],
    [{ broker: "away" }, "broker away"],
    [{ ready: false }, "broker away"],
    [{ ready: false, broker: "away" }, "broker away"],
    [{ draining: true }, "draining"],
    [{ draining: true, ready: false, broker: "away" }, "draining"],
  ])
    assert.equal(stateOf({ ...well, ...change }), state, JSON.stringify(change));
});

test("the first figures of a process make no rate, the next ones do, over the process's own time", () => {
  const { samples, add } = createSamples();
  assert.equal(add(at(0), [told("a", 60_000, { streams: 3, deliveries: 900, publishes: 90 })]).get("a"), 0);
  const rates = add(at(1), [
    told("a", 62_000, { streams: 4, deliveries: 1000, publishes: 92 }),
    told("b", 5000, { streams: 5, deliveries: 70, publishes: 7 }),
  ]);
  assert.deepEqual([...rates], [["a", 50], ["b", 0]]); // biome-ignore format: one pair a process
  assert.deepEqual(samples, [
    { at: Date.parse(at(0)), streams: 3, deliveries: 0, publishes: 0 },
    { at: Date.parse(at(1)), streams: 9, deliveries: 50, publishes: 1 },
  ]);
});

test("a process that did not answer once has the rate of the whole time between", () => {
  const { samples, add } = createSamples();
  add(at(0), [told("a", 10_000, { deliveries: 10 }), told("b", 1000)]);
  add(at(1), [told("b", 2000)]);
  assert.equal(add(at(2), [told("a", 12_000, { deliveries: 30 }), told("b", 3000)]).get("a"), 10);
  assert.deepEqual(samples.map(({ deliveries }) => deliveries), [0, 0, 10]); // biome-ignore format: short
});

test("a count that went back, and figures that are told twice, make no rate below 0 and none that is no number", () => {
  const { samples, add } = createSamples();
  add(at(0), [told("a", 1000, { deliveries: 10 })]);
  assert.equal(add(at(1), [told("a", 2000, { deliveries: 8 })]).get("a"), 0);
  assert.equal(add(at(2), [told("a", 2000, { deliveries: 9, publishes: 5 })]).get("a"), 0);
  assert.deepEqual(samples.map(({ publishes }) => publishes), [0, 0, 0]); // biome-ignore format: short
});

test("every process has a rate, however many there are; samples are those of five minutes", () => {
  const { samples, add } = createSamples();
  const processes = (second) =>
    Array.from({ length: 250 }, (_, n) => told(`p${n}`, 1000 * second, { deliveries: second * n }));
  for (let second = 1; second <= 302; second++) add(at(second), processes(second));
  const rates = add(at(303), processes(303));
  assert.deepEqual([...rates.values()], [...Array(250).keys()]);
  assert.equal(samples.length, 300);
  assert.equal(samples[0].at, Date.parse(at(4)));
});

test("a channel's streams are added over processes; the ten with the most are shown, equal ones by name", () => {
  const top = (pairs) => ({ top: Object.entries(pairs).map(([channel, streams]) => ({ channel, streams })) });
  assert.deepEqual(topChannels([top({ all: 4, "user:b": 1 }), top({ all: 5, "user:c": 2, "user:a": 1 })]), [
    ["all", 9],
    ["user:c", 2],
    ["user:a", 1],
    ["user:b", 1],
  ]);
  const many = top(Object.fromEntries(Array.from({ length: 15 }, (_, n) => [`topic:${n}`, n + 1])));
  const channels = topChannels([many]);
  assert.equal(channels.length, 10);
  assert.deepEqual([channels[0], channels[9]], [["topic:14", 15], ["topic:5", 6]]); // biome-ignore format: pairs
});
