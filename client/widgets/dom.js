/**
 * Elements that widgets are made of: text, times, icons, pictures, buttons, links, bars.
 *
 * Owns: that texts are inserted as text and links are checked. Must not know: stores, which widget shows an element.
 */

import { lang, say } from "./texts.js";

/** @typedef {import("../types.js").Task} Task */

/**
 * @template {keyof HTMLElementTagNameMap} N
 * @param {N} name
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string | null)} children  strings become text nodes
 * @returns {HTMLElementTagNameMap[N]}
 */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** @param {string} iso */
export function timeElement(iso) {
  const date = new Date(iso);
  const element = el("time", { datetime: iso, part: "time" });
  if (Number.isNaN(+date)) return element;
  const isToday = date.toDateString() === new Date().toDateString();
  const format = (/** @type {"full" | "medium" | undefined} */ dateStyle) =>
    new Intl.DateTimeFormat(lang(), { dateStyle, timeStyle: "short" }).format(date);
  element.title = format("full");
  element.textContent = format(isToday ? undefined : "medium");
  return element;
}

const CIRCLE = "M12 3a9 9 0 1 0 .01 0";
const INFO = `${CIRCLE}M12 11v5M12 7.6v.1`;
/** @type {Record<string, string>} */
const SHAPES = {
  info: INFO,
  debug: INFO,
  success: `${CIRCLE}M8 12.4l2.7 2.7L16 9.6`,
  warning: "M12 4 2.8 19.5h18.4zM12 10v4.5M12 17v.1",
  error: `${CIRCLE}M9 9l6 6m0-6-6 6`,
  read: "m5 12.5 4.5 4.5L19 7.5",
  archive: "M4 5h16v4H4zM5.5 9v10h13V9M10 12.5h4",
  menu: "M6 12h.1M12 12h.1M18 12h.1",
  close: "m6.5 6.5 11 11m0-11-11 11",
  remove: "M4.5 7h15M10 7V4.5h4V7M6.5 7l1 12.5h9l1-12.5",
  tasks: "M4 6.5h16M4 12h11M4 17.5h7",
  bell: "M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15zM10 20.5a2.2 2.2 0 0 0 4 0",
};
const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} name
 * @param {string} [more]  classes
 */
export function icon(name, more = "") {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon ${more}`);
  svg.ariaHidden = "true";
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

/**
 * The picture beside a message: its icon if it has one that loads, else the initials of the person who sent it, else its
 * level. A warning and an error show their level. The URL needs no check: an image runs no script.
 *
 * @param {Pick<import("../types.js").Message, "level" | "icon"> & {from?: {name?: string} | null}} message
 */
export function picture({ level, icon: source, from }) {
  const names = /warning|error/.test(level) ? [] : (from?.name?.match(/\S+/g) ?? []);
  const initials = [...new Set([names[0], names.at(-1)])].map((name = "") => [...name][0] ?? "").join("");
  const shown = initials
    ? el("span", { class: "avatar level", part: "avatar", "aria-hidden": "true" }, initials.toUpperCase())
    : icon(level, "level");
  if (!source) return shown;
  const src = /^[\w-]+$/.test(source) ? addressOf(source) : source;
  const image = el("img", { class: "icon level", alt: "", referrerpolicy: "no-referrer", src });
  image.onerror = () => image.replaceWith(shown);
  return image;
}

/**
 * The address of a named icon. An import map may lead to another name, as behind a storage that names files by their
 * content; bundlers have the icons of `new URL` only, and some have no `resolve`.
 *
 * @param {string} name
 */
function addressOf(name) {
  const { href } = new URL(`../icons/${name}.svg`, import.meta.url);
  return import.meta.resolve?.(href) ?? href;
}

/**
 * @param {string} label
 * @param {() => void} action
 * @param {Node | string} [shown]  in the label's place
 */
export function labelled(label, action, shown = label) {
  const element = el("button", { type: "button", part: "button", "aria-label": label, title: label }, shown);
  element.addEventListener("click", action);
  return element;
}

/**
 * A link if the URL is http or https, else null.
 *
 * @param {string | null | undefined} url
 * @param {string | null} [text]
 */
export function link(url, text) {
  const target = url ? parsed(url) : null;
  if (!target || !/^https?:$/.test(target.protocol)) return null;
  return el(
    "a",
    { href: target.href, part: "link", target: "_blank", rel: "noopener noreferrer" },
    text ?? say("open"),
  );
}

/** @param {string} url */
export function parsed(url) {
  try {
    return new URL(url, document.baseURI);
  } catch {
    return null;
  }
}

/** How far a task's bar is. One that waits has an empty bar: nothing moves. @param {Task} task */
export const barOf = ({ percent, ended_at, status }) => percent ?? (ended_at ? 100 : status === "pending" ? 0 : null);

/** @param {string} label */
export function bar(label) {
  return el(
    "div",
    {
      class: "track",
      part: "track",
      role: "progressbar",
      "aria-label": label,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
    },
    el("div", { class: "fill", part: "fill" }),
  );
}

/**
 * @param {Element} track
 * @param {number | null} percent  null: unknown; the bar moves without an end
 */
export function setBar(track, percent) {
  track.ariaValueNow = percent === null ? null : String(percent);
  /** @type {HTMLElement} */ (track.firstElementChild).style.width = percent === null ? "" : `${percent}%`;
}

/**
 * Puts a list's rows in this order and moves only those that are out of place: focus and selection stay.
 *
 * @param {HTMLElement} list
 * @param {HTMLElement[]} wanted
 */
export function keepInStep(list, wanted) {
  const stay = new Set(wanted);
  for (const row of [...list.children]) if (!stay.has(/** @type {HTMLElement} */ (row))) row.remove();
  wanted.forEach((row, i) => {
    if (list.children[i] !== row) list.insertBefore(row, list.children[i] ?? null);
  });
}
