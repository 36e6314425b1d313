/**
 * Small tools for the page: elements, icons, times.
 *
 * Owns: that every text goes in as text and never as markup. Must not know: messages, tasks, the service.
 */

/**
 * An element of the page's own markup.
 *
 * @template {HTMLElement} [E=HTMLElement]
 * @param {string} id
 */
export function byId(id) {
  return /** @type {E} */ (document.getElementById(id));
}

/**
 * A new element. Strings among the children become text nodes.
 *
 * @template {keyof HTMLElementTagNameMap} N
 * @param {N} name
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[N]}
 */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/**
 * One of the icons in the page's sprite.
 *
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/**
 * A button that shows an icon and says its label.
 *
 * @param {string} name
 * @param {string} label
 * @param {() => void} action
 */
export function iconButton(name, label, action) {
  const button = el("button", { type: "button", class: "icon-button", "aria-label": label, title: label }, icon(name));
  button.addEventListener("click", (event) => (event.stopPropagation(), action()));
  return button;
}

/**
 * Sets a progress bar. `percent` null: it moves, and nobody knows how far.
 *
 * @param {Element} track
 * @param {number | null} percent
 */
export function setBar(track, percent) {
  const fill = /** @type {HTMLElement} */ (track.firstElementChild);
  track.toggleAttribute("data-unknown", percent === null);
  if (percent === null) track.removeAttribute("aria-valuenow");
  else track.setAttribute("aria-valuenow", String(percent));
  fill.style.width = percent === null ? "" : `${percent}%`;
}

/**
 * An address that is safe to follow, or null: http and https only, whatever the text claims.
 *
 * @param {string | null} url
 */
export function safeLink(url) {
  if (!url) return null;
  try {
    const { protocol, href } = new URL(url, location.href);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}

const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const WHEN = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });

/**
 * A time that says how long ago it was, and the exact time on hovering.
 *
 * @param {string} iso
 */
export function timeElement(iso) {
  const element = el("time", { datetime: iso, title: WHEN.format(new Date(iso)) }, ago(iso));
  return element;
}

/** Brings all times of the page up to date. */
export function refreshTimes() {
  for (const element of document.querySelectorAll("time")) element.textContent = ago(element.dateTime);
}

/** @param {string} iso */
function ago(iso) {
  const seconds = Math.round((Date.parse(iso) - Date.now()) / 1000);
  if (seconds > -45 && seconds < 45) return "just now";
  if (Math.abs(seconds) < 3600) return AGO.format(Math.round(seconds / 60), "minute");
  if (Math.abs(seconds) < 86_400) return AGO.format(Math.round(seconds / 3600), "hour");
  return AGO.format(Math.round(seconds / 86_400), "day");
}

/**
 * Brings a list's rows into this order without touching those in place: focus and selection stay.
 *
 * @param {HTMLElement} list
 * @param {HTMLElement[]} wanted
 */
export function keepInStep(list, wanted) {
  const stay = new Set(wanted);
  for (const row of [...list.children]) if (!stay.has(/** @type {HTMLElement} */ (row))) row.remove();
  wanted.forEach((row, i) => list.children[i] === row || list.insertBefore(row, list.children[i] ?? null));
}
