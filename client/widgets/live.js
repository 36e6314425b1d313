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
  #isFetching = false;
  #again = false;
  /** The field in which text is composed, as with an input method. @type {Node | null} */
  #composing = null;
  /** Takes the answer, unless it has to wait. @type {(() => void) | null} */
  #take = null;

  connectedCallback() {
    for (const type of ["live", "compositionstart", "compositionend", "focusout"]) this.addEventListener(type, this);
    if (!this.getAttribute("src")) console.warn("The live part has no src:", this);
    if (this.#again) this.reload();
  }

  disconnectedCallback() {
    this.#again = this.#isFetching; // without the part there is no answer: it is fetched again where it is put back
    this.#composing = null;
  }

  handleEvent(/** @type {Event} */ { type, target }) {
    if (type === "live") return this.reload();
    // A field that is removed has no other end than `focusout`, in Firefox none.
    this.#composing = type === "compositionstart" ? /** @type {Node} */ (target) : null;
    setTimeout(() => this.#take?.()); // the next composition may begin at once
  }

  /** Fetches the content again; while a fetch is under way, once more after it. */
  reload() {
    const src = this.getAttribute("src");
    const url = src ? new URL(src, document.baseURI) : null;
    if (url?.origin !== location.origin) return;
    this.#again = this.#isFetching;
    if (this.#again) {
      this.#take?.();
      return;
    }
    this.#isFetching = true;
    fetchPage(this, url, (answer) => {
      this.#take = () => {
        if (this.contains(this.#composing)) return;
        this.#isFetching = false;
        this.#take = null;
        const source = url.hash ? answer?.getElementById(decodeURIComponent(url.hash.slice(1))) : answer?.body;
        if (source) {
          takeGrant(this, source, answer?.getElementById(this.id));
          swap(this, source);
        }
        if (this.#again && this.isConnected) this.reload();
      };
      this.#take();
    });
  }
}

/** @param {HTMLElement} target @param {HTMLElement} source */
function swap(target, source) {
  if (target.innerHTML === source.innerHTML) return;
  const focus = /** @type {any} */ (document.activeElement);
  const place = target !== focus && target.contains(focus) ? sameAs(target, focus) : null;
  const kept = [...target.querySelectorAll(KEPT)]
    .filter((field) => field === focus || isChanged(field))
    .map((field) => /** @type {const} */ ([field, sameAs(target, field)]));
  const scrolled = [...target.querySelectorAll("*")]
    .filter((each) => each.scrollTop || each.scrollLeft)
    .map((each) => {
      const find = (each.id || each.matches(KEPT) ? sameAs : placeOf)(target, each);
      return /** @type {const} */ ([find, each.scrollTop, each.scrollLeft]);
    });
  const { selectionStart, selectionEnd } = focus ?? {};
  const fragment = new DocumentFragment();
  fragment.append(...source.childNodes);
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
    find(target)?.scrollTo?.({ top, left, behavior: "instant" });
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
 * A function that finds the same element: the only one of its id, or of its name in the nearest element with an id; a choice also by its
 * value, a button or link by what it has and shows. What a row of a list has may belong to another row by its place.
 *
 * @param {Element} root
 * @param {any} element
 * @returns {(root: Element | DocumentFragment) => any}
 */
function sameAs(root, element) {
  const isByText = !element.id && !element.matches(KEPT);
  const names = ["id", "name", "type", "contenteditable"];
  if (isByText) names.push("href", "aria-label");
  if (isByText || /^(checkbox|radio)$/.test(element.type)) names.push("value");
  const keyOf = (/** @type {Element} */ each) =>
    JSON.stringify([isByText && each.textContent, ...names.map((name) => each.getAttribute(name))]);
  const key = keyOf(element);
  const owner = element.parentElement.closest("[id]");
  const isInside = !element.id && owner !== root && root.contains(owner);
  const selector = (isInside ? `#${CSS.escape(owner.id)} ` : "") + element.localName;
  const only = (/** @type {Element | DocumentFragment} */ parent) => {
    const all = [...parent.querySelectorAll(selector)].filter((each) => keyOf(each) === key);
    return all.length === 1 && all[0];
  };
  return only(root) ? only : () => null;
}

/**
 * A function that finds the element at the same place.
 *
 * @param {Element} root
 * @param {Element} element
 * @returns {(root: Element | DocumentFragment) => any}
 */
function placeOf(root, element) {
  /** @type {number[]} */
  const path = [];
  for (let each = element; each !== root && each.parentElement; each = each.parentElement)
    path.unshift([...each.parentElement.children].indexOf(each));
  return (next) => path.reduce((/** @type {any} */ each, n) => each?.children[n], next);
}

define("notifier-live", NotifierLive);
