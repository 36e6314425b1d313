/**
 * Polls instead of a stream: one request after the other, each answered as soon as there is an event.
 *
 * Owns: what a poll's answer is as events. Must not know: when polls are used.
 */

/** @typedef {import("./types.js").Task} Task */

const WAIT_S = 25;
const TASK_WAIT_S = 3; // while a task runs: a change between two polls is in the next answer, but does not hasten it
const HEARTBEAT_S = 15; // an answer is due every WAIT_S; the watchdog allows 2.5 heartbeats
const SOON_MS = 1000; // after an answer that came sooner,
const PAUSE_MS = 500; // this pause: events that follow come together, and no answer makes a hot loop

/**
 * @typedef {object} Polls
 * @property {URL} url  its query has the grants of topics
 * @property {import("./request.js").Request} [request]  of a page with topics: it looks at a poll that is refused
 * @property {AbortController} [asking]  ends the present request, which is asked again from the same cursor: where the query has
 *   changed, the next cursor must not be past what this request does not hear
 */

/**
 * Attempts with polls.
 *
 * @param {Polls} polls
 * @param {import("./request.js").Request} request
 * @returns {import("./transport.js").OpenLink}
 */
export function withPoll(polls, request) {
  return (cursor, onBytes, onEvent, _onRetry, onEnd) => {
    let isClosed = false;
    const emit = (/** @type {string} */ event, /** @type {any} */ data, id = "") =>
      isClosed || onEvent({ event, id, data: JSON.stringify(data) });
    run()
      .catch(() => ({ status: 0 }))
      .then((end) => isClosed || onEnd(end));
    return { close, listen() {} };

    function close() {
      isClosed = true;
      polls.asking?.abort();
    }

    /** @returns {Promise<import("./transport.js").End>} */
    async function run() {
      const tell = createTeller(emit);
      for (let after = cursor, waitS = 0; ; ) {
        const askedAt = Date.now();
        const target = new URL(polls.url);
        if (after) target.searchParams.set("after", after);
        target.searchParams.set("wait_s", String(waitS));
        polls.asking = new AbortController();
        const { signal } = polls.asking;
        let answer;
        try {
          const response = await (polls.request ?? request)(target, {
            headers: { Accept: "application/json" },
            signal,
          });
          if (!response) return { status: 401, isSignedOut: true };
          const { status, headers } = response;
          if (status !== 200) return { status, afterMs: 1000 * Number(headers.get("Retry-After")) };
          answer = await response.json();
        } catch (error) {
          if (isClosed || !signal.aborted) throw error;
          waitS = Math.max(0, waitS - Math.ceil((Date.now() - askedAt) / 1000)); // the watchdog waits for an answer
          continue;
        }
        onBytes();
        tell(answer, after);
        after = answer.cursor ?? after;
        const isSoon = waitS > 0 && Date.now() - askedAt < SOON_MS;
        waitS = answer.tasks?.some((/** @type {Task} */ task) => !task.ended_at) ? TASK_WAIT_S : WAIT_S;
        if (isSoon) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  };
}

/**
 * Returns a function that tells an answer as the events of a stream: `hello` first, then what happened, then what the
 * present state shows beyond that.
 *
 * @param {(event: string, data: any, id?: string) => void} emit
 */
function createTeller(emit) {
  /** @type {Map<string, string> | null} */
  let told = null; // the tasks' times; null: before hello
  let count = 0; // unread
  return tell;

  /**
   * @param {any} answer
   * @param {string} after
   */
  function tell({ cursor, recovered, events, tasks, unread }, after) {
    const isFirst = tasks && !told;
    if (isFirst) {
      told = new Map(tasks.map((/** @type {Task} */ task) => [task.id, task.updated_at]));
      const hello = { v: 1, recovered, replayed: events.length, unread, tasks, heartbeat_s: HEARTBEAT_S };
      emit("hello", hello, (events.length && after) || cursor);
    }
    for (const { event, data, id } of events) {
      if (event === "message") count += 1;
      if (event === "task") told?.set(data.id, data.updated_at);
      if (event === "task.dismissed") told?.delete(data.id);
      emit(event, data, id ?? "");
    }
    if (!tasks || !told) return;
    for (const task of tasks) if (told.get(task.id) !== task.updated_at) emit("task", task);
    for (const id of told.keys())
      if (!tasks.some((/** @type {Task} */ task) => task.id === id)) emit("task.dismissed", { id });
    told = new Map(tasks.map((/** @type {Task} */ task) => [task.id, task.updated_at]));
    if (!isFirst && unread !== count) emit("inbox", { read: [], deleted: [], unread });
    count = unread;
  }
}
