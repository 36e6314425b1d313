/**
 * The console: asks for the key, shows the figures as they come.
 *
 * Owns: the login, the header, processes and channels. Must not know: how calls are made, what a user's panel shows.
 */

import { byId, el } from "../pages/dom.js";
import { createChart } from "./chart.js";
import { duration, shown } from "./dom.js";
import { createSamples, stateOf, topChannels } from "./figures.js";
import { call, useKey, watch } from "./service.js";
import { setUpUser } from "./user.js";

/** @typedef {import("./figures.js").Figures} Figures */

const CHARTS = /** @type {const} */ ([
  ["streams", "Open streams"],
  ["deliveries", "Deliveries a second"],
  ["publishes", "Publishes a second"],
]);

byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId("key"));
  const problem = byId("login-problem");
  problem.textContent = "";
  useKey(field.value.trim());
  try {
    await call("v1/console");
  } catch (error) {
    problem.textContent = refusal(/** @type {import("../notifier.js").ServiceError} */ (error));
    field.select();
    return;
  }
  field.value = "";
  open();
});

/** @param {import("../notifier.js").ServiceError} error */
function refusal({ status, message }) {
  if (status === 401) return "The service does not know this key. Enter one of NOTIFIER_API_KEYS.";
  if (status === 403) return "This key lacks the scope admin. Enter one that ends in :publish+admin.";
  return `The console cannot open: ${message}`;
}

function open() {
  byId("login").hidden = true;
  byId("app").hidden = false;
  const samples = createSamples();
  const charts = CHARTS.map(([id, name]) => /** @type {const} */ ([id, createChart(name, id)]));
  byId("charts").append(...charts.map(([, { element }]) => element));
  const close = watch({
    onState(state, reason) {
      byId("state").dataset.state = state;
      // A live region is read out with each change, also with one to the same text.
      if (byId("state-text").textContent !== reason) byId("state-text").textContent = reason;
    },
    onFigures({ at, processes, missing }) {
      const rates = samples.add(at, processes);
      for (const [id, chart] of charts) chart.show(samples.samples.map((each) => ({ at: each.at, value: each[id] })));
      showProcesses(processes, rates, missing);
      showTop(processes);
    },
  });
  setUpUser();
  byId("leave").addEventListener("click", () => {
    close();
    useKey("");
    location.reload();
  });
}

/**
 * @param {Figures[]} processes
 * @param {Map<string, number>} rates
 * @param {number | null} missing
 */
function showProcesses(processes, rates, missing) {
  byId("processes").replaceChildren(
    ...processes.map((figures) => {
      const { host, pid, version, streams, topics, resets, shards_away, up_ms } = figures;
      const state = stateOf(figures);
      return el(
        "tr",
        {},
        el("th", { scope: "row" }, `${host} · ${pid}`, el("span", { class: "muted small" }, ` ${version}`)),
        el("td", {}, el("span", { class: "pill", "data-state": state }, state)),
        ...[streams, topics, rates.get(figures.process) ?? 0, resets].map((n) =>
          el("td", { class: "number" }, shown(n)),
        ),
        el("td", {}, shards_away.length ? `away: ${shards_away.join(", ")}` : "all there"),
        el("td", { class: "number" }, duration(up_ms)),
      );
    }),
  );
  byId("processes-note").textContent =
    missing === null
      ? "The broker is away: only the process of this page is shown"
      : `${processes.length} answer${missing ? `, ${missing} did not answer in time` : ""}`;
}

/** @param {Figures[]} processes */
function showTop(processes) {
  const channels = topChannels(processes);
  const most = channels[0]?.[1] ?? 1;
  byId("top").replaceChildren(
    ...channels.map(([channel, streams]) => {
      const bar = el("meter", { min: "0", max: String(most), value: String(streams), "aria-label": channel });
      return el("li", {}, el("span", { class: "name", title: channel }, channel), el("b", {}, shown(streams)), bar);
    }),
  );
  if (!channels.length) byId("top").append(el("li", { class: "muted" }, "No open streams"));
}
