/**
 * The operator's calls to the service, and the stream of figures.
 *
 * Owns: the API key, in this module's memory only. Must not know: the page.
 */

import { backoffMs } from "../attempts.js";
import { ServiceError } from "../notifier.js";
import { createParser, readData } from "../parse.js";

/** The service's URL: the page's folder, also behind a proxy that adds a prefix. */
const BASE = new URL(".", location.href);
const PATIENCE_MS = 15_000;
const SILENCE_MS = 10_000;

let key = "";

/** @param {string} value  an API key */
export function useKey(value) {
  key = value;
}

/**
 * Calls the service. Throws `ServiceError`; one with the status 0 where there is no answer.
 *
 * @param {string} path
 * @param {object} [body]  makes it a POST
 */
export async function call(path, body) {
  const response = await fetch(new URL(path, BASE), {
    method: body ? "POST" : "GET",
    headers: { Authorization: `Bearer ${key}`, ...(body && { "Content-Type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) }),
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).catch(() => null);
  if (!response) throw new ServiceError(0, { detail: "the service does not answer" });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new ServiceError(response.status, answer ?? undefined);
  return answer;
}

/**
 * Reads the stream of figures, again after each end, until the key is refused or `close` is called.
 *
 * @param {{onFigures: (figures: any) => void, onState: (state: string, reason: string) => void}} listener
 * @returns {() => void}  close
 */
export function watch({ onFigures, onState }) {
  let closed = false;
  let failures = 0;
  let controller = new AbortController();
  void run();
  return () => {
    closed = true;
    controller.abort();
  };

  async function run() {
    while (!closed) {
      const status = await attempt().catch(() => 0);
      if (closed) return;
      if ([401, 403, 404].includes(status)) return onState("offline", "The key is not accepted any more");
      onState(status === 200 ? "connecting" : "offline", status === 200 ? "Connecting" : "The service does not answer");
      await new Promise((resolve) => setTimeout(resolve, backoffMs(failures++)));
    }
  }

  /** One stream. Returns the status that it ended with. */
  async function attempt() {
    controller = new AbortController();
    const headers = { Accept: "text/event-stream", Authorization: `Bearer ${key}` };
    let patience = setTimeout(() => controller.abort(), SILENCE_MS);
    try {
      const url = new URL("v1/console/stream", BASE);
      const response = await fetch(url, { headers, credentials: "omit", signal: controller.signal });
      if (response.status !== 200 || !response.body) return response.status;
      const parse = createParser(({ event, data }) => {
        if (event !== "figures") return;
        failures = 0;
        onState("live", "Live");
        onFigures(readData(data));
      });
      for (const reader = response.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) return 200;
        clearTimeout(patience);
        patience = setTimeout(() => controller.abort(), SILENCE_MS);
        parse(value);
      }
    } finally {
      clearTimeout(patience);
    }
  }
}
