/**
 * Live parts that htmx or Turbo fetches: what becomes of the answer. Concerned are fetches that the event `live` has caused. A frame takes
 * over the grant of every answer, also where the user has followed a link in it.
 *
 * Must not know: topics, when a part is fetched.
 */

import { accepts } from "./answers.js";
import { PATIENCE_MS } from "./request.js";
import { takeGrant } from "./swapped.js";

const HTMX4_TIMEOUT_MS = 60_000; // its default

/** Listens. Returns a function that reloads a `<turbo-frame>`. */
export function watchFrameworks() {
  /** @type {any} */
  let reloading = null; // the frame whose `reload` runs
  /** Frames whose last request is by `reload`. */
  const reloaded = new WeakSet();
  /** Their answers. @type {WeakSet<Response>} */
  const answers = new WeakSet();
  const lose = (/** @type {any} */ { detail }) => void isAccepted(detail.requestConfig.triggeringEvent);
  /** @type {Record<string, (event: any) => void>} */
  const handlers = {
    // htmx 2
    "htmx:configRequest": ({ detail }) => {
      if (isLive(detail.triggeringEvent) && !detail.elt.closest('[hx-request*="timeout"]'))
        detail.timeout ||= PATIENCE_MS;
    },
    "htmx:beforeSwap": ({ detail }) => {
      const { requestConfig, pathInfo, xhr } = detail;
      if (!requestConfig) return; // htmx 4's extension `htmx-2-compat` has sent it
      if (!isAccepted(requestConfig.triggeringEvent, pathInfo.finalRequestPath, xhr.responseURL, xhr.status))
        detail.shouldSwap = false;
    },
    "htmx:sendError": lose,
    "htmx:timeout": lose,
    // htmx 4
    "htmx:config:request": ({ detail: { ctx } }) => {
      const { defaultTimeout = HTMX4_TIMEOUT_MS } = /** @type {any} */ (globalThis).htmx?.config ?? {};
      if (isLive(ctx.sourceEvent) && defaultTimeout === HTMX4_TIMEOUT_MS) ctx.request.timeout ??= PATIENCE_MS;
    },
    "htmx:before:swap": (event) => {
      const { sourceEvent, request, response } = event.detail.ctx;
      const { redirected, url } = response?.raw ?? {};
      if (!isAccepted(sourceEvent, redirected ? request.action : url, url, response?.status)) event.preventDefault();
    },
    "htmx:error": ({ detail: { ctx } }) => void (ctx && ctx.text === undefined && isAccepted(ctx.sourceEvent)),
    // Turbo
    "turbo:before-fetch-request": ({ target, detail: { fetchOptions } }) => {
      if (target !== reloading) return void reloaded.delete(target);
      reloaded.add(target);
      const signals = [fetchOptions.signal, AbortSignal.timeout(PATIENCE_MS)];
      fetchOptions.signal = AbortSignal.any?.(signals) ?? fetchOptions.signal;
    },
    "turbo:before-fetch-response": (event) => {
      const { target: frame, detail } = event;
      const { response } = detail.fetchResponse;
      if (!reloaded.has(frame)) return;
      const { redirected, url, status } = response; // Turbo fetches another spelling of `src`; a page may change it
      if (accepts(frame, redirected ? frame.src : url, url, status)) return void answers.add(response);
      event.preventDefault();
      void response.body?.cancel();
    },
    "turbo:fetch-request-error": ({ target }) => reloaded.has(target) && accepts(target, "", "", 0),
    // An answer without the frame (permission is withdrawn) leaves the content; by itself Turbo would say that it is missing.
    "turbo:frame-missing": (event) => answers.has(event.detail.response) && event.preventDefault(),
    "turbo:before-frame-render": ({ target: frame, detail }) =>
      frame.matches("[data-live-topic]") && takeGrant(frame, detail.newFrame),
  };
  for (const [type, handler] of Object.entries(handlers)) document.addEventListener(type, handler);
  return (/** @type {any} */ frame) => {
    reloading = frame;
    frame.reload?.();
    reloading = null;
  };
}

/** @param {Event | undefined} event */
const isLive = (event) => event?.type === "live";

/**
 * Whether htmx may swap an answer in.
 *
 * @param {any} event  that has caused the fetch
 * @param {string} [asked]
 * @param {string} [url]
 * @param {number} [status]
 */
const isAccepted = (event, asked = "", url = "", status = 0) =>
  !isLive(event) || accepts(event.target, asked, url, status);
