/**
 * Connects a page that Django rendered, by a script tag alone. It reads
 *
 *     <script id="notifier-config" type="application/json">{"url": "...", "token": "...", "tokenUrl": "..."}</script>
 *
 * sets `window.notifier`, with the store as `notifier.store` (later, where its module does not load at first), fills the widgets of the page and those to come, and gives every event to the document as a CustomEvent: `notifier:message`, `notifier:task`,
 * `notifier:inbox`, `notifier:reset`, `notifier:hello`, `notifier:<any published name>` with the data as `detail`, and
 * `notifier:state` with `{state, reason, final}`, `notifier:connectionState` with what to show of the connection. Without the config (no user is logged in) it does nothing.
 *
 * The stream belongs to the document: it stays open when htmx and similar libraries swap parts of the page.
 *
 * Owns: the config element, the DOM events, the token's address. Must not know: the stream, what widgets show.
 */

import { connect } from "./notifier.js";
import { persist } from "./pause.js";
import { jsonCall } from "./request.js";
import { claimsOf } from "./token.js";

/** @typedef {{url?: string, token?: string, tokenUrl?: string, grantsUrl?: string, texts?: string, widgets?: boolean, shared?: boolean}} Config */

const SILENT = new Set(["ping", "bye", "degraded"]); // reported by notifier:state

const element = globalThis.document?.getElementById("notifier-config");
if (element) await begin(JSON.parse(element.textContent || "{}"));

/** @param {Config} config */
async function begin({ url = "/", token, tokenUrl, grantsUrl, texts, widgets, shared }) {
  // Everything is set up before the first event arrives, unless a module does not load at first. Firefox never loads it then.
  const load = () =>
    Promise.all([
      import("./store.js"),
      import("./widgets.js"),
      texts ? import(texts).catch(console.error) : undefined, // then the texts are English
    ]);
  const modules = widgets && (await load().catch(console.error));
  const notifier = connect(url, {
    token,
    shared,
    getToken: tokenUrl ? () => ask(tokenUrl, "GET") : undefined,
    fetch: (...args) => window.fetch(...args), // EventSource delivers only the names that it listens to
    onEvent: ({ event, data }) => SILENT.has(event) || event === "state" || announce(event, parsed(data)),
    onState: (state, detail) => announce("state", { state, ...detail }),
    onConnectionState: (state) => announce("connectionState", state),
  });
  if (modules) fill(modules);
  else if (widgets) void persist(load).then((late) => late && fill(late));
  watchLive(notifier, grantsUrl, texts);
  /** @type {any} */ (window).notifier = notifier;

  /** @param {Awaited<ReturnType<typeof load>>} modules */
  function fill([{ createStore }, { showWidgets }, words]) {
    const store = createStore(notifier);
    showWidgets(store, { texts: words?.default });
    Object.defineProperty(notifier, "store", { value: store });
  }
}

/** Loads the module for live elements once the page has one. @param {any} notifier @param {string} [grantsUrl] @param {string} [texts] */
function watchLive(notifier, grantsUrl, texts) {
  const observer = new MutationObserver(look);
  observer.observe(document, { subtree: true, childList: true, attributeFilter: ["data-live-topic"] });
  look();

  function look() {
    if (!document.querySelector("[data-live-topic]")) return;
    observer.disconnect();
    void persist(() => import("./live.js")).then((live) => live?.watchPage(notifier, renew, texts));
  }

  /** Without a URL for grants, each view gives the next grant. @param {string[]} grants */
  async function renew(grants) {
    if (!grantsUrl) return { grants: [], unknown: grants.flatMap((grant) => claimsOf(grant).topics) };
    return (await ask(grantsUrl, "POST", { grants })) ?? { grants: [] };
  }
}

/**
 * @param {string} name
 * @param {unknown} detail
 */
function announce(name, detail) {
  document.dispatchEvent(new CustomEvent(`notifier:${name}`, { detail }));
}

/** @param {string} data */
function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}

/**
 * Asks Django for the next token or grants. Returns null if the user is no longer logged in: a 401, a 403, or a redirect to a login page
 * instead of JSON.
 *
 * @param {string} url
 * @param {string} method
 * @param {object} [body]
 */
async function ask(url, method, body) {
  const response = await fetch(url, { credentials: "same-origin", cache: "no-store", ...jsonCall(method, body) });
  if (response.status === 401 || response.status === 403) return null;
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return /\bjson\b/.test(response.headers.get("Content-Type") ?? "") ? response.json() : null;
}
