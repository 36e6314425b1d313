/**
 * The base class of elements, and their registration. Without a DOM (a server that renders the page) both do nothing.
 *
 * Must not know: what an element shows.
 */

export const BaseElement = /** @type {typeof HTMLElement} */ (globalThis.HTMLElement ?? class {});

/**
 * Registers an element. The first definition of a name stays.
 *
 * @param {keyof import("../elements.d.ts").NotifierElements} name
 * @param {CustomElementConstructor} element
 */
export function define(name, element) {
  const registry = globalThis.customElements;
  if (!registry?.get(name)) registry?.define(name, element);
}
