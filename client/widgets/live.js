/**
 * `<notifier-live src="/orders/7/" data-live-topic="shop.order:7">`: a part of the page that is fetched again, in the viewer's own
 * session, when its topic changes. With `#id` in `src`, the content of that element of the answer.
 *
 * The grant of that element, or of the answer's element with the same id, is its next grant. Focus, selection, fields that were changed and
 * scrolling stay. An answer that is no success, a redirect to another address (a login) or another origin leaves the content as it is.
 *
 * Owns: fetching and swapping. Must not know: topics, the service.
 */

import { fetchPage } from "../answers.js";
import { takeGrant } from "../swapped.js";
import { BaseElement, define } from "./element.js";

const KEPT = "input:not([type=button],[type=submit],[type=hidden]), textarea, select, [contenteditable]";

export class NotifierLive extends BaseElement {
  /** @type {XMLHttpRequest | null} */
  #request = null;
  #again = false;

  connectedCallback() {
    this.addEventListener("live", this.reload);
  }

  disconnectedCallback() {
    this.removeEventListener("live", this.reload);
    this.#request?.abort();
    this.#request = null;
  }

  /** Fetches the content again; while a fetch is under way, once more after it. */
  reload() {
    const url = new URL(this.getAttribute("src") ?? "", document.baseURI);
    if (url.origin !== location.origin) return;
    if (this.#request) {
      this.#again = true;
      return;
    }
    this.#request = fetchPage(this, url, (answer) => {
      this.#request = null;
      const source = url.hash ? answer?.getElementById(decodeURIComponent(url.hash.slice(1))) : answer?.body;
      if (source) {
        takeGrant(this, source, this.id ? answer?.getElementById(this.id) : null);
        swap(this, source);
      }
      if (this.#again && this.isConnected) {
        this.#again = false;
        this.reload();
      }
    });
  }
}

/** @param {HTMLElement} target @param {HTMLElement} source */
function swap(target, source) {
  if (target.innerHTML === source.innerHTML) return;
  const focus = /** @type {any} */ (document.activeElement);
  const place = target.contains(focus) ? (focus.matches(KEPT) ? sameAs : placeOf)(target, focus) : null;
  const kept = [...target.querySelectorAll(KEPT)]
    .filter((field) => field === focus || isChanged(field))
    .map((field) => /** @type {const} */ ([field, sameAs(target, field)]));
  const scrolled = [target, ...target.querySelectorAll("*")]
    .filter((each) => each.scrollTop || each.scrollLeft)
    .map((each) => /** @type {const} */ ([placeOf(target, each), each.scrollTop, each.scrollLeft]));
  const { selectionStart, selectionEnd } = focus ?? {};
  const fragment = document.createDocumentFragment();
  fragment.append(...[...source.childNodes].map((node) => document.adoptNode(node)));
  const heir = place?.(fragment);
  // The field itself stays, with what is typed in it; one whose state the answer has is the answer's.
  for (const [field, find] of kept) {
    const next = find(fragment);
    if (next && (field === focus || stateOf(field) !== stateOf(next))) next.replaceWith(field);
  }
  target.replaceChildren(fragment);
  const isKept = place && target.contains(focus);
  const next = isKept ? focus : heir;
  next?.focus?.({ preventScroll: true });
  if (isKept && typeof selectionStart === "number") focus.setSelectionRange?.(selectionStart, selectionEnd);
  for (const [find, top, left] of scrolled) {
    const each = find(target);
    each?.scrollTo?.({ top, left, behavior: "instant" });
  }
}

/** Whether a field has another state than in the page as it was answered. @param {any} field */
function isChanged(field) {
  const form = document.createElement("form");
  form.append(field.cloneNode(true));
  form.reset();
  return stateOf(field) !== stateOf(form.firstChild);
}

/** @param {any} field */
const stateOf = (field) =>
  JSON.stringify([field.checked, [...(field.selectedOptions ?? [field])].map(({ value }) => value)]);

/**
 * A function that finds the same field: the only one of its id, or of its name in the nearest element with an id; a choice also by its
 * value. What a row of a list has may belong to another row by its place.
 *
 * @param {Element} root
 * @param {any} field
 * @returns {(root: Element | DocumentFragment) => any}
 */
function sameAs(root, field) {
  const names = ["id", "name", "type", "contenteditable", ...(/^(checkbox|radio)$/.test(field.type) ? ["value"] : [])];
  const attributes = names.map((name) =>
    field.hasAttribute(name) ? `[${name}="${CSS.escape(field.getAttribute(name))}"]` : `:not([${name}])`,
  );
  const owner = field.parentElement.closest("[id]");
  const isInside = !field.id && owner !== root && root.contains(owner);
  const selector = (isInside ? `#${CSS.escape(owner.id)} ` : "") + field.localName + attributes.join("");
  const only = (/** @type {Element | DocumentFragment} */ parent) => {
    const fields = parent.querySelectorAll(selector);
    return fields.length === 1 ? fields[0] : null;
  };
  return only(root) ? only : () => null;
}

/**
 * A function that finds the element of the same id, else of the same name, else at the same place.
 *
 * @param {Element} root
 * @param {Element} element
 * @returns {(root: Element | DocumentFragment) => any}
 */
function placeOf(root, element) {
  if (element === root) return (next) => next;
  const name = element.getAttribute("name");
  const selector = element.id ? `#${CSS.escape(element.id)}` : name && `[name="${CSS.escape(name)}"]`;
  if (selector) {
    const n = [...root.querySelectorAll(selector)].indexOf(element);
    return (next) => next.querySelectorAll(selector)[n];
  }
  /** @type {number[]} */
  const path = [];
  for (let each = element; each !== root && each.parentElement; each = each.parentElement)
    path.unshift([...each.parentElement.children].indexOf(each));
  return (next) => path.reduce((/** @type {any} */ each, n) => each?.children[n], next);
}

define("notifier-live", NotifierLive);
