/**
 * The user's own data by HTTP: inbox and tasks.
 *
 * Owns: the paths and bodies of these calls. Must not know: the stream, pages.
 */

import { jsonCall } from "./request.js";

/** @typedef {import("./types.js").InboxPage} InboxPage */
/** @typedef {import("./types.js").Task} Task */

/** A response that is not a success. `message` is the service's error text. */
export class ServiceError extends Error {
  /**
   * @param {number} status
   * @param {import("./types.js").Problem} [problem]  RFC 9457
   */
  constructor(status, problem = {}) {
    super(problem.detail ?? problem.title ?? `The service answered ${status}`);
    this.name = "ServiceError";
    this.status = status;
    /** Path of the invalid value, if the problem names one. */
    this.field = problem.field;
    /** With members of its own: the `value` and `by` of an answer that was first. */
    this.problem = problem;
  }
}

/**
 * @param {URL} base  ends in a slash
 * @param {import("./request.js").Request} request
 * @param {boolean} [canRenew]  another token may be accepted after a 401
 */
export function createApi(base, request, canRenew) {
  return {
    /**
     * One page of messages, newest first. `before`: the id of the oldest message that is already listed.
     *
     * @param {{limit?: number, before?: string, unread?: boolean}} [page]
     * @returns {Promise<InboxPage>}
     */
    inbox: ({ limit, before, unread } = {}) => {
      const given = Object.entries({ limit, before, unread: unread && 1 }).filter(([, value]) => value);
      return call("GET", `inbox?${new URLSearchParams(/** @type {any} */ (given))}`);
    },
    /** @param {string | string[]} ids  ids, or "all" */
    markRead: (ids) => call("POST", "inbox/read", ids === "all" ? { all: true } : { ids: [ids].flat() }),
    /** @param {string} id */
    deleteMessage: (id) => call("DELETE", `inbox/${encodeURIComponent(id)}`),
    /** @returns {Promise<number>} */
    unread: async () => (await call("GET", "inbox/unread")).unread,
    /** @returns {Promise<Task[]>} */
    tasks: async () => (await call("GET", "tasks")).tasks,
    /** @param {string} id @returns {Promise<Task>} */
    task: (id) => call("GET", `tasks/${encodeURIComponent(id)}`),
    /**
     * The output of a task after a piece.
     *
     * @param {string} id
     * @param {number} [after]  the number of the last piece that is known
     * @returns {Promise<{n: number, text: string, truncated: boolean}>}
     */
    output: (id, after = 0) => call("GET", `tasks/${encodeURIComponent(id)}/output?after=${after}`),
    /**
     * Answers a task's question. Rejects with the status 409 if there is an answer already.
     *
     * @param {string} id
     * @param {string} question
     * @param {string} value
     * @returns {Promise<Task>}
     */
    answerTask: (id, question, value) => call("POST", `tasks/${encodeURIComponent(id)}/answer`, { question, value }),
    /** @param {string} id */
    cancelTask: (id) => call("POST", `tasks/${encodeURIComponent(id)}/cancel`),
    /** Dismisses a task that has ended. @param {string} id */
    dismissTask: (id) => call("DELETE", `tasks/${encodeURIComponent(id)}`),
  };

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @returns {Promise<any>} null where the answer has no body
   */
  async function call(method, path, body) {
    for (let again = true; ; again = false) {
      const response = await request(new URL(`v1/${path}`, base), {
        ...jsonCall(method, body),
        keepalive: method !== "GET", // a click that leaves the page also marks as read
      });
      if (response?.status === 401 && again && canRenew) continue;
      const answer = await response?.json().catch(() => null);
      if (!response?.ok) throw new ServiceError(response?.status ?? 401, answer ?? undefined);
      return answer;
    }
  }
}
