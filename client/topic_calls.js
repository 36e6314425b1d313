/**
 * Calls that change what the present stream hears, one after the other. One that fails is repeated after a pause by whatever it was for.
 *
 * Must not know: topics, what tabs say to each other.
 */

import { jsonCall } from "./request.js";

/** @typedef {ReturnType<typeof createTopicCalls>} TopicCalls */

const RETRY_MS = 2000; // twice this at most, at random
/** @type {(number | undefined)[]} */
const REFUSALS = [403, 409, 422]; // a repeat gets the same
const OPEN = new Set(["live", "degraded"]); // a process without its broker is not found by the others

/**
 * @param {import("./connection.js").Connection} connection
 * @param {URL} base
 * @param {import("./request.js").Request} request
 * @param {() => void} onLost  the stream is not there
 * @param {() => void} onRepeat  the pause after a failure is over
 */
export function createTopicCalls(connection, base, request, onLost, onRepeat) {
  /** @type {Promise<any>} */
  let last = Promise.resolve(); // call: the service may take two at once in any order
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let retry;
  /** @type {[id: string, again: (() => void) | undefined][]} */
  const failed = [];
  const stream = {
    id: "", // "": there is none
    lost: "", // the stream that did not find itself, during the pause; another is joined without one
    /**
     * Changes what the stream hears. Returns null if that is to be tried later, with the status as `refused` if never.
     *
     * @param {object} body
     * @param {() => void} [again]  to do after the pause, if the stream is still this one
     */
    change(body, again) {
      last = last.then(() => send(body, again));
      return last;
    },
  };
  return stream;

  /** @param {object} body @param {() => void} [again] */
  async function send(body, again) {
    const { id } = stream;
    const call = jsonCall("POST", { connection: id, ...body });
    const response = await request(new URL("v1/stream/topics", base), call).catch(() => null);
    const answer = response?.ok && (await response.json().catch(() => null)); // it may end within its body
    if (answer) return answer;
    const status = response?.status;
    if (status === 404 && !(connection.leads && OPEN.has(connection.state))) {
      if (stream.id === id) {
        stream.lost = id;
        stream.id = ""; // a hello follows, or the leader's answer
        onLost();
      }
    } else if (REFUSALS.includes(status)) return { refused: status };
    failed.push([id, again]);
    clearTimeout(retry);
    retry = setTimeout(repeat, RETRY_MS * (1 + Math.random()));
    return null;
  }

  function repeat() {
    stream.lost = "";
    for (const [id, again] of failed.splice(0)) if (id === stream.id) again?.();
    onRepeat();
  }
}
