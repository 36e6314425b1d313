/**
 * The user's own data by HTTP: inbox and tasks.
 *
 * Owns: addresses and forms of these calls. Must not know: the stream, pages.
 */

/** @typedef {import("./types.js").InboxPage} InboxPage */
/** @typedef {import("./types.js").Task} Task */

const PATIENCE_MS = 15_000;

/** An answer that is not a success. `message` is what the service said about it. */
export class ServiceError extends Error {
  /**
   * @param {number} status
   * @param {{title?: string, detail?: string, field?: string}} [problem]  RFC 9457
   */
  constructor(status, problem = {}) {
    super(problem.detail ?? problem.title ?? `The service answered ${status}`);
    this.name = "ServiceError";
    this.status = status;
    /** Path of the value at fault, if there is one. */
    this.field = problem.field;
  }
}

/**
 * @param {URL} base  ends in a slash
 * @param {import("./token.js").Tokens | null} tokens  null: the cookie is the token
 * @param {typeof globalThis.fetch} fetch
 */
export function createApi(base, tokens, fetch) {
  return {
    /**
     * One page of messages, newest first. `before`: the id of the last one that is already there.
     *
     * @param {{limit?: number, before?: string, unread?: boolean}} [page]
     * @returns {Promise<InboxPage>}
     */
    inbox: ({ limit, before, unread } = {}) => {
      const query = new URLSearchParams();
      if (limit) query.set("limit", String(limit));
      if (before) query.set("before", before);
      if (unread) query.set("unread", "1");
      return call("GET", `inbox?${query}`);
    },
    /** @param {string | string[]} ids  ids, or "all" */
    markRead: (ids) => call("POST", "inbox/read", ids === "all" ? { all: true } : { ids: [ids].flat() }),
    /** @param {string} id */
    deleteMessage: (id) => call("DELETE", `inbox/${encodeURIComponent(id)}`),
    /** @returns {Promise<number>} */
    unread: async () => (await call("GET", "inbox/unread")).unread,
    /** @returns {Promise<Task[]>} */
    tasks: async () => (await call("GET", "tasks")).tasks,
    /** @param {string} id */
    cancelTask: (id) => call("POST", `tasks/${encodeURIComponent(id)}/cancel`),
    /** Forgets a task that has ended. @param {string} id */
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
      /** @type {Record<string, string>} */
      const headers = { Accept: "application/json" };
      const token = await tokens?.get();
      if (token) headers.Authorization = `Bearer ${token}`;
      if (body) headers["Content-Type"] = "application/json";
      const response = await fetch(new URL(`v1/${path}`, base), {
        method, headers, body: body && JSON.stringify(body), cache: "no-store",
        credentials: tokens ? "same-origin" : "include", signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (response.status === 401 && tokens?.refused(token) && again) continue;
      const answer = await response.json().catch(() => null);
      if (!response.ok) throw new ServiceError(response.status, answer ?? undefined);
      return answer;
    }
  }
}
