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
  /** @type {Map<string, HTMLLIElement>} those that are shown */
  #rows = new Map();
  #list = el("ul", { part: "people", role: "list" });
  #text = el("span", { part: "text", role: "status" });
  #topic = "";
  #state = ""; // what the user does there

  /**
   * Shows the people of a handle: of `notifier.topic(grant)`. A handle of the same topic, as of its next grant, goes on from the one before.
   *
   * @param {Handle} handle
   */
  show(handle) {
    const topic = this.getAttribute("topic") ?? handle.topics[0];
    if (topic !== this.#topic) {
      this.#draw(handle, 0, []);
      this.#state = "";
    }
    this.#topic = topic;
    this.#handle = handle;
    this.begin();
  }

  begin() {
    this.end();
    if (this.#handle && this.isConnected) this.#start(this.#handle);
  }

  /** @param {Handle} handle @param {number} count @param {Person[]} users */
  #draw(handle, count, users) {
    const known = this.#rows;
    this.#rows = new Map();
    const add = (/** @type {string} */ key, /** @type {() => HTMLLIElement} */ create) =>
      this.#rows.set(key, known.get(key) ?? create());
    this.#others = users.filter(({ id }) => id !== handle.user).sort(byStateAndName);
    const more = (users.length ? this.#others.length : count - 1) - Math.min(this.#others.length, FACES);
    for (const person of this.#others.slice(0, FACES)) {
      const title = titleOf(person);
      add(JSON.stringify([person.id, person.state, title]), () => this.#row(person, title));
    }
    if (more > 0) add(say("others", { n: more }), () => rowOfMore(more));
    keepInStep(this.#list, [...this.#rows.values()]);
    const words = sentence(this.#others, users.length ? 0 : count - 1);
    if (this.#text.textContent !== words) this.#text.textContent = words; // else it is read out again
  }

  /** @param {Handle} handle */
  #start(handle) {
    const topic = this.#topic;
    const parts = [this.#list, this.#text];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const connected = (/** @type {import("../types.js").ConnectionState} */ { state, since }) => {
      const isLive = state === "open" || state === "polling";
      const show = () => parts.forEach((part) => void part.classList.toggle("dim", !isLive));
      clearTimeout(timer);
      timer = setTimeout(show, isLive ? 0 : since + PATIENCE_MS - Date.now());
    };
    if (!this.root.firstChild) this.root.append(...parts);
    if (this.#state) handle.state(this.#state);
    this.ends.push(
      handle.on("connectionState", connected),
      () => clearTimeout(timer),
      handle.presence(({ topic: name, count, users }) => name === topic && this.#draw(handle, count, users)),
    );
    this.#watchForm();
    this.#watchGrant();
    connected(handle.connectionState);
    const { ends } = this;
    handle.onEnded((names) => ends === this.ends && names.includes(topic) && this.#draw(handle, 0, []));
  }

  /** @param {Person} person @param {string} title */
  #row({ id, name, state }, title) {
    const avatars = this.getAttribute("avatars");
    const icon = avatars?.replaceAll("{id}", encodeURIComponent(id));
    const face = picture({ level: "info", icon, from: { name: name ?? id } });
    const row = el("li", { part: "person", class: state === EDITING ? "warning" : "info", title }, face);
    row.append(el("span", { class: "sr" }, title));
    return row;
  }

  /** @param {string} state */
  #tell(state) {
    this.#state = state;
    this.#handle?.state(state);
  }

  #watchForm() {
    const isOwn = (/** @type {Event} */ { target }) => {
      const selector = this.getAttribute("editing");
      return Boolean(selector && /** @type {Element} */ (target).closest?.(selector));
    };
    const begin = (/** @type {Event} */ event) => isOwn(event) && this.#tell(EDITING);
    const leave = (/** @type {Event} */ event) => isOwn(event) && this.#tell("");
    const submit = (/** @type {Event} */ event) => {
      if (!isOwn(event)) return;
      const editors = this.#others.filter(({ state }) => state === EDITING);
      const warning = editors.length && this.getAttribute("warning");
      if (!warning || confirm(warning.replaceAll("{name}", namesOf(editors)))) return leave(event);
      event.preventDefault();
      event.stopImmediatePropagation(); // also where a script submits the form
    };
    this.listen(document, "input", begin);
    this.listen(document, "reset", leave);
    this.listen(document, "submit", submit, { capture: true });
  }

  /** Where the page's server leaves the next grant to the view, the page is fetched for it. */
  #watchGrant() {
    this.listen(this, "live", ({ detail }) => {
      if (!detail.isDue) return;
      fetchPage(this, location.href, (answer) => {
        const topic = CSS.escape(this.getAttribute("topic") ?? "");
        takeGrant(this, answer?.querySelector(`${this.localName}[topic="${topic}"]`));
      });
    });
  }
}

/**
 * Shows the people of a live element, in the page's language.
 *
 * @param {any} element
 * @param {Handle} handle
 * @param {string} [texts]  their URL
 */
export async function showPeople(element, handle, texts) {
  const words = texts && (await import(texts).catch(console.error));
  if (words) useTexts(words.default);
  element.show(handle);
}

/** @param {Person} person */
const titleOf = ({ id, name, state }) =>
  state === EDITING ? say("editing", { n: 1, name: name ?? id }) : (name ?? id);

/** @param {number} n */
function rowOfMore(n) {
  const face = el("span", { class: "avatar level more", "aria-hidden": "true" }, `+${n}`);
  return el("li", { part: "more" }, face, el("span", { class: "sr" }, say("others", { n })));
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
