/**
 * The base of all widgets: their store and common style.
 *
 *     showWidgets(store, { texts: ru });
 *
 * Owns: when a widget starts and ends. Styles are constructed style sheets, which no Content Security Policy forbids.
 * Must not know: what a widget shows.
 */

import { BaseElement } from "./element.js";
import { say, useTexts } from "./texts.js";

/** @typedef {ReturnType<typeof import("../store.js").createStore>} Store */
/** @typedef {import("../types.js").Texts} Texts */

/** @typedef {HTMLElement & {listeners: Set<(news: import("../types.js").News) => void>}} Listening  the toasts */
/** @typedef {{begin: (widget: any, store: Store) => () => void}} Option  `begin` returns a function that ends it */

/** @type {Store | null} */
let store = null;
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
  useTexts(options.texts);
  for (const widget of present) widget.begin();
}

/** Where the bell's panel is a sheet. */
export const PHONE = "(max-width: 480px)";

const COMMON_CSS = `
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
.level { color: var(--_level); margin: 0.1rem 0.425rem 0; }
.avatar { inline-size: 2rem; block-size: 2rem; margin: 0; border-radius: 50%; flex: none; display: grid; place-items: center; font-size: 0.75rem; font-weight: 600; background: color-mix(in srgb, var(--_level) 14%, transparent); border: 1px solid transparent; }
.info, .debug { --_level: var(--_accent); } .success { --_level: var(--_success); }
.warning { --_level: var(--_warning); } .error { --_level: var(--_error); }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.muted, time { color: var(--_muted); font-size: 0.8125rem; }
.line { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 0.5rem; }
label, summary { min-block-size: 1.75rem; align-content: center; cursor: pointer; }
.line > :first-child { margin-inline-end: auto; }
.note { display: flex; flex-wrap: wrap; align-items: center; gap: 0 0.5rem; color: var(--_muted); font-size: 0.8125rem; }
.note:focus { outline: 0; }
.note.shown { margin-block: 0.4rem; padding: 0.2rem 0.6rem; border-inline-start: 3px solid var(--_warning); }
.note button { margin-inline-start: -0.35rem; color: var(--_accent); font-size: inherit; }
.dim { opacity: 0.55; }
.line > span:empty:not(:first-child) { display: none; }
.line a, .body > a { display: inline-block; min-inline-size: 1.5rem; padding-block: 0.15rem; }
.text { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
.text, [part=sender], [part=subject], [part=name], [part=title] { unicode-bidi: plaintext; text-align: -webkit-match-parent; text-align: match-parent; }
time { unicode-bidi: isolate; white-space: nowrap; }
.track { height: 0.5rem; border-radius: 1rem; background: color-mix(in srgb, var(--_line) 25%, var(--_surface)); overflow: hidden; border: 1px solid var(--_line); }
.fill { height: 100%; background: var(--_accent); border-radius: inherit; transition: width 0.2s; }
.track:not([aria-valuenow]) .fill { width: 40%; animation: pass 1.4s infinite; }
@keyframes pass { from { margin-inline-start: -40%; } to { margin-inline-start: 100%; } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
@media (forced-colors: active) { .track { border-color: CanvasText; } .fill { background: Highlight !important; forced-color-adjust: none; } .icon { forced-color-adjust: auto; } }
`;

/** @type {Map<string, CSSStyleSheet>} */
const sheets = new Map();

/** @param {string} css */
function sheet(css) {
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
    this.root.adoptedStyleSheets = [sheet(COMMON_CSS), sheet(css)];
    present.add(this);
    this.begin();
  }

  disconnectedCallback() {
    present.delete(this);
    this.end();
  }

  /** Adds the style of a module that the widget has loaded. @param {string} css */
  adopt(css) {
    const adopted = this.root.adoptedStyleSheets;
    if (!adopted.includes(sheet(css))) adopted.push(sheet(css));
  }

  begin() {
    this.end();
    this.clear();
    if (store) this.start(store);
  }

  /**
   * Listens until the widget ends.
   *
   * @param {EventTarget} target
   * @param {string} type
   * @param {(event: any) => void} handler
   * @param {AddEventListenerOptions} [options]
   */
  listen(target, type, handler, options) {
    target.addEventListener(type, handler, options);
    this.ends.push(() => target.removeEventListener(type, handler, options));
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

  /** Says that a call of this widget failed; "": no longer. @param {string} _words */
  report(_words) {}

  /**
   * Does what the user asked for. A failure is dispatched as the document's event `notifier:failed`, which the toasts
   * show: with the error as `detail`, the name of a text in `what`, and `retry`. Without toasts in the page the widget reports it.
   *
   * @param {"notRead" | "notRemoved" | "notMore" | "notCancelled" | "notDismissed" | "notAnswered" | undefined} what  did not work then
   * @param {() => Promise<unknown>} call
   */
  attempt(what, call) {
    this.report("");
    call().catch((error) => {
      if (!document.querySelector("notifier-toasts")) this.report(say(what ?? "failed"));
      const failure = new CustomEvent("notifier:failed", { detail: error });
      document.dispatchEvent(Object.assign(failure, { what, retry: () => this.attempt(what, call) }));
    });
  }
}
