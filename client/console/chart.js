/**
 * A live chart of one figure: its value now, its course as a picture, and the same as a table.
 *
 * Must not know: what the figure means.
 */

import { el } from "../pages/dom.js";
import { shown, svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 84;
const WINDOW_MS = 300_000;
const ROWS = 12;
const ROW_MS = 5000;

/** @typedef {{at: number, value: number}} Point */

/**
 * @param {string} name
 * @param {string} id
 */
export function createChart(name, id) {
  const value = el("p", { class: "value", id: `${id}-value` }, "–");
  const peak = el("p", { class: "muted small" });
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "course" });
  const title = svg("title", {}, name);
  const grid = [0.5, HEIGHT / 2, HEIGHT - 0.5].map((y) => svg("path", { class: "rule", d: `M0 ${y}H${WIDTH}` }));
  const picture = svg(
    "svg",
    { role: "img", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "chart" },
    title,
    ...grid,
    area,
    line,
  );
  const rows = el("tbody");
  const details = el(
    "details",
    {},
    el("summary", {}, "As a table"),
    el(
      "table",
      {},
      el("caption", { class: "sr" }, name),
      el(
        "thead",
        {},
        el("tr", {}, el("th", { scope: "col" }, "Time"), el("th", { scope: "col", class: "number" }, name)),
      ),
      rows,
    ),
  );
  details.addEventListener("toggle", () => fillTable());
  const axis = el("div", { class: "axis", "aria-hidden": "true" }, el("span", {}, "5 min ago"), el("span", {}, "now"));
  const element = el(
    "article",
    { class: "card figure", id },
    el("div", { class: "head" }, el("h2", {}, name), peak),
    value,
    picture,
    axis,
    details,
  );
  /** @type {Point[]} */
  let points = [];
  let filledAt = 0;
  return { element, show };

  /** @param {Point[]} all  oldest first, at least one */
  function show(all) {
    const now = all[all.length - 1];
    points = all.filter(({ at }) => at > now.at - WINDOW_MS);
    const most = Math.max(...points.map(({ value }) => value));
    const top = ceiling(most);
    const path = points
      .map(({ at, value }) => {
        const x = WIDTH * (1 - (now.at - at) / WINDOW_MS);
        return `${x.toFixed(1)} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
      })
      .join("L");
    line.setAttribute("d", `M${path}`);
    const first = (WIDTH * (1 - (now.at - points[0].at) / WINDOW_MS)).toFixed(1);
    area.setAttribute("d", `M${first} ${HEIGHT}L${path}L${WIDTH} ${HEIGHT}Z`);
    value.textContent = shown(now.value);
    peak.textContent = `most ${shown(most)}`;
    title.textContent = `${name}: ${shown(now.value)} now, at most ${shown(most)} in the last 5 minutes`;
    if (now.at - filledAt >= ROW_MS) fillTable();
  }

  function fillTable() {
    if (!details.open || !points.length) return;
    const newest = points[points.length - 1].at;
    filledAt = newest;
    const chosen = points.filter(({ at }, i) => i === points.length - 1 || at % ROW_MS < 1000).slice(-ROWS);
    rows.replaceChildren(
      ...chosen.reverse().map(({ at, value }) => {
        const time = new Date(at).toLocaleTimeString("en-GB");
        return el("tr", {}, el("td", {}, time), el("td", { class: "number" }, shown(value)));
      }),
    );
  }
}

/**
 * The height of the picture: 1, 2 or 5 times a power of ten.
 *
 * @param {number} most
 */
function ceiling(most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= most) ?? most;
}
