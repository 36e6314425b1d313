/**
 * Elements of the service's own pages, the demo and the console.
 *
 * Owns: that texts are inserted as text, never as markup. Must not know: what the pages show.
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
