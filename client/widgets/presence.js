/**
 * `<notifier-presence>`: who else has a topic open, as faces and a line of text; nothing where there is no other person. It needs no
 * store. Names come from the grants that the page's server has signed.
 *
 *     topic    whose people; by default the first of its handle
 *     editing  a selector: an input in that form is the state "editing", until it is submitted or reset
 *     warning  a question before that form is submitted while others edit; `{name}` are these
 *     avatars  the URL of pictures, where `{id}` is the user's id
 *
 * Without a connection the people of before are dim.
 *
 * Owns: what shows of people. Must not know: how topics are heard.
 */

import { fetchPage } from "../answers.js";
import { takeGrant } from "../swapped.js";
import { Widget } from "./base.js";
import { PATIENCE_MS } from "./connection.js";
import { el, keepInStep, picture } from "./dom.js";
import { define } from "./element.js";
import { lang, say, useTexts } from "./texts.js";

/** @typedef {import("../handle.js").TopicHandle} Handle */
/** @typedef {import("../people.js").Person} Person */

const FACES = 5;
const NAMES = 3;
const EDITING = "editing";

export class NotifierPresence extends Widget {
  static css = `
    :host(:not([hidden])) { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25rem 0.6rem; min-block-size: 2rem; }
    ul { display: flex; list-style: none; margin: 0; padding: 0; }
    li { border-radius: 50%; border: 2px solid transparent; background: var(--_surface); }
    li + li { margin-inline-start: -0.5rem; }
    li.warning { border-color: var(--_warning); }
    li.warning .avatar { --_level: var(--_warning); }
    .avatar, li > .icon { color: var(--_text); inline-size: 2rem; block-size: 2rem; border-radius: 50%; }
    img { object-fit: cover; }
    .more { --_level: var(--_muted); }
    [part=text] { overflow-wrap: anywhere; unicode-bidi: plaintext; }`;
  /** @type {Handle | null} */
  #handle = null;
  /** @type {Person[]} */
  #others = [];

  /** Shows the people of a handle: of `notifier.topic(grant)`. @param {Handle} handle */
  show(handle) {
    this.#handle = handle;
    this.begin();
  }

  begin() {
    this.end();
    this.clear();
    if (this.#handle && this.isConnected) this.#start(this.#handle);
  }

  /** @param {Handle} handle */
  #start(handle) {
    const topic = this.getAttribute("topic") ?? handle.topics[0];
    const list = el("ul", { part: "people", role: "list" });
    const text = el("span", { part: "text", role: "status" });
    /** @type {Map<string, HTMLLIElement>} */
    const rows = new Map();
    const draw = (/** @type {number} */ count, /** @type {Person[]} */ users) => {
      this.#others = users.filter(({ id }) => id !== handle.user).sort(byStateAndName);
      const more = (users.length ? this.#others.length : count - 1) - Math.min(this.#others.length, FACES);
      const wanted = this.#others.slice(0, FACES).map((person) => this.#row(rows, person));
      if (more > 0) wanted.push(rowOfMore(rows, more));
      keepInStep(list, wanted);
      text.textContent = sentence(this.#others, users.length ? 0 : count - 1);
    };
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const connected = (/** @type {import("../types.js").ConnectionState} */ { state, since }) => {
      const isLive = state === "open" || state === "polling";
      const show = () => [list, text].forEach((part) => void part.classList.toggle("dim", !isLive));
      clearTimeout(timer);
      timer = setTimeout(show, isLive ? 0 : since + PATIENCE_MS - Date.now());
    };
    this.root.append(list, text);
    this.ends.push(
      handle.on("connectionState", connected),
      () => clearTimeout(timer),
      handle.presence(({ topic: name, count, users }) => name === topic && draw(count, users)),
      this.#watchForm(handle),
      this.#watchGrant(),
    );
    connected(handle.connectionState);
    const { ends } = this;
    handle.onEnded((names) => ends === this.ends && names.includes(topic) && draw(0, []));
  }

  /** @param {Map<string, HTMLLIElement>} rows @param {Person} person */
  #row(rows, { id, name, state }) {
    const key = JSON.stringify([id, name, state]);
    const known = rows.get(key);
    if (known) return known;
    const avatars = this.getAttribute("avatars");
    const icon = avatars?.replaceAll("{id}", encodeURIComponent(id));
    const face = picture({ level: "info", icon, from: { name: name ?? id } });
    const isEditing = state === EDITING;
    const shown = name ?? id;
    const title = isEditing ? say("editing", { n: 1, name: shown }) : shown;
    const row = el("li", { part: "person", class: isEditing ? "warning" : "info", title }, face);
    row.append(el("span", { class: "sr" }, title));
    rows.set(key, row);
    return row;
  }

  /** @param {Handle} handle */
  #watchForm(handle) {
    const ended = new AbortController();
    const { signal } = ended;
    const isOwn = (/** @type {Event} */ { target }) => {
      const selector = this.getAttribute("editing");
      return Boolean(selector && /** @type {Element} */ (target).closest?.(selector));
    };
    const begin = (/** @type {Event} */ event) => isOwn(event) && handle.state(EDITING);
    const leave = (/** @type {Event} */ event) => isOwn(event) && handle.state("");
    const submit = (/** @type {Event} */ event) => {
      if (!isOwn(event)) return;
      const editors = this.#others.filter(({ state }) => state === EDITING);
      const warning = editors.length && this.getAttribute("warning");
      if (!warning || confirm(warning.replaceAll("{name}", namesOf(editors)))) return leave(event);
      event.preventDefault();
      event.stopImmediatePropagation(); // also where a script submits the form
    };
    document.addEventListener("input", begin, { signal });
    document.addEventListener("reset", leave, { signal });
    document.addEventListener("submit", submit, { signal, capture: true });
    return () => ended.abort();
  }

  /** Where the page's server leaves the next grant to the view, the page is fetched for it. */
  #watchGrant() {
    const take = (/** @type {any} */ { detail }) => {
      if (!detail.isDue) return;
      fetchPage(this, location.href, (answer) => {
        const topic = CSS.escape(this.getAttribute("topic") ?? "");
        takeGrant(this, answer?.querySelector(`${this.localName}[topic="${topic}"]`));
      });
    };
    this.addEventListener("live", take);
    return () => this.removeEventListener("live", take);
  }
}

/**
 * Shows the people of a live element, in the page's language.
 *
 * @param {any} element
 * @param {Promise<Handle>} opening
 * @param {string} [texts]  their URL
 */
export async function showPeople(element, opening, texts) {
  const words = texts && (await import(texts).catch(console.error));
  if (words) useTexts(words.default);
  element.show(await opening);
}

/** @param {Map<string, HTMLLIElement>} rows @param {number} n */
function rowOfMore(rows, n) {
  const key = `+${n}`;
  const face = el("span", { class: "avatar level more", "aria-hidden": "true" }, key);
  const row = rows.get(key) ?? el("li", { part: "more" }, face, el("span", { class: "sr" }, say("others", { n })));
  rows.set(key, row);
  return row;
}

/** @param {Person[]} people @param {number} many  people without names */
function sentence(people, many) {
  const editors = people.filter(({ state }) => state === EDITING);
  if (editors.length) return say("editing", { n: editors.length, name: namesOf(editors) });
  if (many > 0) return say("alsoHere", { name: say("others", { n: many }) });
  return people.length ? say("alsoHere", { name: namesOf(people) }) : "";
}

/** @param {Person[]} people */
function namesOf(people) {
  const more = people.length - NAMES;
  const names = people.slice(0, NAMES).map(({ id, name }) => name ?? id);
  return new Intl.ListFormat(lang()).format(more > 0 ? [...names, say("others", { n: more })] : names);
}

/** @param {Person} a @param {Person} b */
const byStateAndName = (a, b) =>
  Number(b.state === EDITING) - Number(a.state === EDITING) || (a.name ?? a.id).localeCompare(b.name ?? b.id, lang());

define("notifier-presence", NotifierPresence);
