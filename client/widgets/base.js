/**
 * The base of all widgets: their store, texts, times, elements and common style.
 *
 *     showWidgets(store, { texts: ru });
 *
 * Owns: that texts are inserted as text and links are checked; when a widget starts and ends. Styles are constructed
 * style sheets, which no Content Security Policy forbids. Must not know: what a widget shows.
 */

import en from "../i18n/en.js";
import { BaseElement } from "./element.js";

/** @typedef {ReturnType<typeof import("../store.js").createStore>} Store */
/** @typedef {import("../types.js").Task} Task */
/** @typedef {import("../types.js").Texts} Texts */

/** @typedef {HTMLElement & {listeners: Set<(news: import("../types.js").News) => void>}} Listening  the toasts */
/** @typedef {{begin: (widget: any, store: Store) => () => void}} Option  `begin` returns a function that ends it */

/** @type {Store | null} */
let store = null;
/** @type {Texts} */
let texts = en;
/** @type {Set<Widget>} */
const present = new Set();

/**
 * Sets the store that all widgets of the page show, also those added later.
 *
 * @param {Store} next
 * @param {{texts?: Texts}} [options]  the texts of a language: a file of i18n/
 */
export function showWidgets(next, options = {}) {
  store = next;
  texts = options.texts ?? en;
  for (const widget of present) widget.begin();
}

const COMMON = `
:host { --_accent: var(--notifier-accent, light-dark(#2456c7, #8fb2ff)); --_surface: var(--notifier-surface, light-dark(#fff, #1c1f26));
  --_text: var(--notifier-text, light-dark(#1b1e24, #eceef2)); --_muted: var(--notifier-muted, light-dark(#5a6170, #a9b0bd));
  --_line: var(--notifier-line, light-dark(#d9dde5, #3a404c)); --_error: var(--notifier-error, light-dark(#b3261e, #ff8f86));
  --_success: var(--notifier-success, light-dark(#1b7f3b, #6fd08c)); --_warning: var(--notifier-warning, light-dark(#a05a00, #f2b950));
  --_radius: var(--notifier-radius, 8px); --_shadow: var(--notifier-shadow, 0 6px 24px #0003); --_gap: var(--notifier-gap, 0.65rem);
  color: var(--_text); text-align: start; font: var(--notifier-font, 0.9375rem/1.4 system-ui, sans-serif); }
:host(:not([hidden])) { display: block; }
[hidden] { display: none !important; }
* { box-sizing: border-box; }
ol { list-style: none; margin: 0; padding: 0; }
button { font: inherit; font-size: 0.875rem; color: inherit; background: none; border: 1px solid transparent; border-radius: min(6px, var(--_radius)); cursor: pointer; min-width: 1.75rem; min-height: 1.75rem; padding: 0 0.35rem; }
button:hover { background: color-mix(in srgb, currentColor 10%, transparent); }
button:focus-visible, a:focus-visible, li:focus-visible { outline: 2px solid var(--_accent); outline-offset: 1px; }
a { color: var(--_accent); }
.icon { inline-size: 1.15rem; block-size: 1.15rem; flex: none; fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; display: block; margin: auto; }
.level { color: var(--_level); margin: 0.1rem 0 0; }
.avatar { inline-size: 2rem; block-size: 2rem; margin: 0; border-radius: 50%; flex: none; display: grid; place-items: center; font-size: 0.75rem; font-weight: 600; background: color-mix(in srgb, var(--_level) 14%, transparent); border: 1px solid transparent; }
.info, .debug { --_level: var(--_accent); } .success { --_level: var(--_success); }
.warning { --_level: var(--_warning); } .error { --_level: var(--_error); }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.muted, time { color: var(--_muted); font-size: 0.8125rem; }
.line { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 0.5rem; }
.line > :first-child { margin-inline-end: auto; }
.note { display: flex; flex-wrap: wrap; align-items: center; gap: 0 0.5rem; color: var(--_muted); font-size: 0.8125rem; }
.note:focus { outline: 0; }
.note.shown { margin-block: 0.4rem; padding: 0.2rem 0.6rem; border-inline-start: 3px solid var(--_warning); }
.note button { color: var(--_accent); font-size: inherit; }
.dim { opacity: 0.55; }
.text { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
.text, [part=sender], [part=subject], [part=name], [part=title] { unicode-bidi: plaintext; text-align: -webkit-match-parent; text-align: match-parent; }
time { unicode-bidi: isolate; white-space: nowrap; }
.track { height: 0.5rem; border-radius: 1rem; background: var(--_line); overflow: hidden; border: 1px solid transparent; }
.fill { height: 100%; background: var(--_accent); border-radius: inherit; transition: width 0.2s; }
.track:not([aria-valuenow]) .fill { width: 40%; animation: pass 1.4s infinite; }
@keyframes pass { from { margin-inline-start: -40%; } to { margin-inline-start: 100%; } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
@media (forced-colors: active) { .track { border-color: CanvasText; } .fill { background: Highlight; forced-color-adjust: none; } }
`;

/** @type {Map<string, CSSStyleSheet>} */
const sheets = new Map();

/** @param {string} css */
export function sheet(css) {
  const style = sheets.get(css) ?? new CSSStyleSheet();
  if (!sheets.has(css)) style.replaceSync(css);
  sheets.set(css, style);
  return style;
}

export class Widget extends BaseElement {
  static css = "";
  root = this.attachShadow({ mode: "open" });
  /**
   * Modules by the attribute that asks for them: nothing else loads them. @type {Record<string, () => Promise<Option>>}
   */
  static options = {};
  /** @type {(() => void)[]} */
  ends = [];

  /** Called when the widget is shown with a store. Add the functions that undo it to `ends`. @param {Store} _store */
  start(_store) {}

  connectedCallback() {
    const { css } = /** @type {typeof Widget} */ (this.constructor);
    this.root.adoptedStyleSheets = [sheet(COMMON), sheet(css)];
    present.add(this);
    this.begin();
  }

  disconnectedCallback() {
    present.delete(this);
    this.end();
  }

  begin() {
    this.end();
    this.clear();
    if (store) this.start(store);
  }

  clear() {
    this.root.replaceChildren();
  }

  end() {
    const { ends } = this;
    this.ends = [];
    for (const end of ends) end();
  }

  /** Begins what the widget's attributes ask for. A module that does not load is left out. @param {Store} store */
  async extend(store) {
    const { ends } = this;
    const { options } = /** @type {typeof Widget} */ (this.constructor);
    const wanted = Object.keys(options).filter((name) => this.hasAttribute(name));
    for (const option of await Promise.all(wanted.map((name) => options[name]().catch(console.error))))
      if (option && this.ends === ends) ends.push(option.begin(this, store));
  }

  /**
   * Does what the user asked for. A failure is dispatched as the document's event `notifier:failed`, which the toasts
   * show: with the error as `detail`, the name of a text in `what`, and `retry`.
   *
   * @param {"notRead" | "notRemoved" | "notMore" | "notCancelled" | "notDismissed" | "notAnswered"} what  did not work then
   * @param {() => Promise<unknown>} call
   */
  attempt(what, call) {
    call().catch((error) => {
      const failure = new CustomEvent("notifier:failed", { detail: error });
      document.dispatchEvent(Object.assign(failure, { what, retry: () => this.attempt(what, call) }));
    });
  }
}

/**
 * A text in the page's language; `n` selects the plural form.
 *
 * @param {Exclude<keyof Texts, "status">} key
 * @param {{n?: number, name?: string, time?: string, value?: string}} [values]
 */
export function say(key, { n = 0, ...rest } = {}) {
  const text = texts[key];
  const forms = /** @type {Record<string, string>} */ (typeof text === "string" ? { other: text } : text);
  const form = forms[new Intl.PluralRules(texts.lang).select(n)] ?? forms.other;
  /** @type {Record<string, string>} */
  const values = { n: new Intl.NumberFormat(texts.lang).format(n), ...rest };
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** @param {Task} task */
export const statusOf = ({ status }) => texts.status[status];

/** The page's language. */
export const lang = () => texts.lang;

/** @param {number} percent */
export const percentText = (percent) => new Intl.NumberFormat(texts.lang, { style: "percent" }).format(percent / 100);

/** @param {Task} task  percent and remaining time */
export function howFar({ percent, done, eta_s: eta, status, ended_at: ended }) {
  const far = percent === null ? (ended ? "" : say("soFar", { n: done })) : percentText(percent);
  if (ended || !eta || status !== "running") return far; // 0: the first item took no measurable time
  const minutes = eta / 60;
  const time =
    eta < 90 ? duration(eta, "second") : minutes < 90 ? duration(minutes, "minute") : duration(minutes / 60, "hour");
  return `${far} · ${say("left", { time })}`;
}

/**
 * @param {number} count  rounded up
 * @param {"second" | "minute" | "hour"} unit
 */
export const duration = (count, unit) =>
  new Intl.NumberFormat(texts.lang, { style: "unit", unit }).format(Math.ceil(count));

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
    new Intl.DateTimeFormat(texts.lang, { dateStyle, timeStyle: "short" }).format(date);
  element.title = format("full");
  element.textContent = format(isToday ? undefined : "medium");
  return element;
}

/** The sender as shown. @param {import("../types.js").Message} message */
export const senderOf = ({ from }) => from?.name ?? from?.id ?? say("system");

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
  svg.setAttribute("aria-hidden", "true");
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
  const src = /^[\w-]+$/.test(source) ? new URL(`../icons/${source}.svg`, import.meta.url).href : source;
  const image = el("img", { class: "icon level", alt: "", referrerpolicy: "no-referrer", src });
  image.onerror = () => image.replaceWith(shown);
  return image;
}

/**
 * @param {Node | string} shown
 * @param {string} label
 * @param {() => void} action
 */
export function button(shown, label, action) {
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
function parsed(url) {
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
  if (percent === null) track.removeAttribute("aria-valuenow");
  else track.setAttribute("aria-valuenow", String(percent));
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
