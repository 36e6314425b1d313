/**
 * Figures of processes become rates, totals and the channels with the most streams.
 *
 * Owns: the samples of the last minutes. Must not know: the page, the service's calls.
 */

/**
 * @typedef {object} Figures  What a process tells.
 * @property {string} process
 * @property {string} host
 * @property {number} pid
 * @property {string} version
 * @property {number} up_ms
 * @property {number} streams
 * @property {number} topics
 * @property {number} publishes
 * @property {number} deliveries
 * @property {number} resets
 * @property {boolean} ready
 * @property {boolean} draining
 * @property {string} broker
 * @property {number[]} shards_away
 * @property {{channel: string, streams: number}[]} top
 */

/** @typedef {{at: number, streams: number, deliveries: number, publishes: number}} Sample */

const MAX_SAMPLES = 300;
const MAX_TOP = 10;
/** Processes whose last figures are kept, unless more answer. */
const MAX_KEPT = 200;

/** Keeps samples. */
export function createSamples() {
  /** @type {Map<string, Figures>} */
  const last = new Map();
  /** @type {Sample[]} */
  const samples = [];
  return { samples, add };

  /**
   * Adds what the processes told; returns the deliveries a second of each.
   *
   * @param {string} at
   * @param {Figures[]} processes
   */
  function add(at, processes) {
    const sample = { at: Date.parse(at), streams: 0, deliveries: 0, publishes: 0 };
    /** @type {Map<string, number>} */
    const rates = new Map();
    for (const now of processes) {
      const before = last.get(now.process);
      const seconds = before ? (now.up_ms - before.up_ms) / 1000 : 0;
      const rate = before && seconds > 0 ? Math.max(0, now.deliveries - before.deliveries) / seconds : 0;
      sample.streams += now.streams;
      sample.deliveries += rate;
      if (before && seconds > 0) sample.publishes += (now.publishes - before.publishes) / seconds;
      rates.set(now.process, rate);
    }
    // A process that did not answer this time keeps its last figures: its next rate is over the whole time between.
    for (const figures of processes) {
      last.delete(figures.process); // so that it becomes the newest of the map
      last.set(figures.process, figures);
    }
    for (const process of [...last.keys()].slice(0, -Math.max(MAX_KEPT, processes.length))) last.delete(process);
    samples.push(sample);
    if (samples.length > MAX_SAMPLES) samples.shift();
    return rates;
  }
}

/**
 * The channels with the most streams in all processes.
 *
 * @param {Figures[]} processes
 */
export function topChannels(processes) {
  /** @type {Map<string, number>} */
  const totals = new Map();
  for (const { top } of processes) {
    for (const { channel, streams } of top) totals.set(channel, (totals.get(channel) ?? 0) + streams);
  }
  return [...totals].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1)).slice(0, MAX_TOP);
}

/** @param {Figures} figures */
export function stateOf({ draining, ready, broker }) {
  if (draining) return "draining";
  if (!ready || broker === "away") return "broker away";
  return broker === "degraded" ? "degraded" : "ready";
}
