/**
 * The pieces of a task's output, in order and each once, from what a stream brings and what is read.
 *
 * Owns: which pieces are there. Must not know: pages, how pieces are read.
 */

import { pauseMs } from "../pause.js";

/** @typedef {import("../types.js").TaskOutput} TaskOutput */

/**
 * The pieces in order, each once. What is missing is read. A read that fails is repeated; one that is refused, as of a
 * task that is gone, is left to the next `receive` or `expect`.
 *
 * @param {(after: number) => Promise<{n: number, text: string, truncated: boolean}>} read
 * @param {(text: string, isTruncated: boolean) => void} add
 * @param {() => void} clear
 * @param {(isLoaded: boolean, hasFailed: boolean) => void} [tell]  the first read begins; a read is done; it has failed, and
 *   a repeat as well, or would
 */
export function createPieces(read, add, clear, tell = () => {}) {
  let n = 0; // the last piece that it has
  let newest = 0; // the last piece that it knows of
  let expected = 0; // what the service said last
  let isLoading = false;
  let isClosed = false;
  let failures = 0; // reads in a row
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return { receive, expect, again, retry, close };

  /** Clears, and reads everything that is kept. */
  function again() {
    if (isLoading) return;
    n = 0;
    clear();
    void load();
  }

  /** Reads on, without the pause of a repeat; what it has stays. */
  function retry() {
    failures = 0;
    tell(false, false);
    if (!isLoading) void load();
  }

  /** @param {TaskOutput} piece */
  function receive(piece) {
    newest = Math.max(newest, piece.n);
    if (isLoading || piece.n <= n) return;
    if ((piece.from ?? piece.n) === n + 1) {
      n = piece.n;
      add(piece.text, false);
    } else void load();
  }

  /** @param {number} known  the number of a piece that the service has */
  function expect(known) {
    const isOther = known !== expected;
    expected = known;
    newest = isOther && known < n ? Infinity : Math.max(newest, known); // fewer: its data may be lost, which a read shows
    if (newest > n && !isLoading) void load();
  }

  async function load() {
    clearTimeout(timer);
    isLoading = true;
    if (!n && !failures) tell(false, false);
    try {
      do {
        newest = 0; // what is announced from now on may not be in the answer
        const rest = await read(n);
        failures = 0;
        if (isClosed) return;
        tell(true, false);
        if (rest.n < n) {
          // The service lost its data, and the task began anew.
          n = 0;
          newest = 1;
          clear();
          continue;
        }
        n = rest.n;
        if (rest.text || rest.truncated) add(rest.text, rest.truncated);
      } while (newest > n);
    } catch (error) {
      if (isClosed) return;
      const isFinal = isRefusal(error);
      if (!isFinal) timer = setTimeout(load, pauseMs(failures++));
      if (isFinal || failures > 1) tell(false, true);
    } finally {
      isLoading = false;
    }
  }

  function close() {
    isClosed = true;
    clearTimeout(timer);
  }
}

/** Whether a repeat would get the same answer. @param {unknown} error */
function isRefusal(error) {
  const { status } = /** @type {{status?: number}} */ (error);
  return status !== undefined && status >= 400 && status < 500 && status !== 401 && status !== 429;
}
