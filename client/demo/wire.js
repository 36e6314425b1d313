/**
 * The log of the wire: every event as it was received, and every change of the connection.
 *
 * Owns: the log's lines. Must not know: what events mean.
 */

import { byId, el } from "../pages/dom.js";

/** @typedef {import("../types.js").WireEvent} WireEvent */
/** @typedef {ReturnType<typeof import("../notifier.js").connect>} Notifier */

const MOST = 200; // lines; older lines are removed

/** @param {Notifier} notifier */
export function showWire(notifier) {
  const log = byId("wire-log");
  let events = 0;
  let bytes = 0;
  let lastId = "";

  notifier.on("*", (/** @type {WireEvent} */ { event, data, id }) => {
    const own = id === lastId ? "" : `id: ${id}\n`;
    lastId = id;
    events += 1;
    bytes += new TextEncoder().encode(`${own}event: ${event}\ndata: ${data}\n\n`).length;
    byId("wire-count").textContent = `${events} ${events === 1 ? "event" : "events"} · ${size(bytes)}`;
    line(event, id && own ? id : "", data);
  });
  notifier.on("state", (state, { reason }) => line(":", "", `${state} (${reason})`));
  byId("wire-clear").addEventListener("click", () => log.replaceChildren());
  byId("wire-pings").addEventListener("change", (event) => {
    log.classList.toggle("with-pings", /** @type {HTMLInputElement} */ (event.target).checked);
  });

  /**
   * @param {string} event
   * @param {string} id
   * @param {string} data
   */
  function line(event, id, data) {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
    const time = new Date().toLocaleTimeString("en-GB");
    log.append(
      el(
        "li",
        { "data-event": event },
        el("span", { class: "wire-time" }, time),
        el("span", { class: "wire-event" }, event),
        el("span", { class: "wire-data" }, data),
        ...(id ? [el("span", { class: "wire-id" }, id)] : []),
      ),
    );
    while (log.childElementCount > MOST) log.firstElementChild?.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
}

/** @param {number} bytes */
function size(bytes) {
  return bytes < 1024 ? `${bytes} bytes` : `${(bytes / 1024).toFixed(1)} KiB`;
}
