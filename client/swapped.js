/**
 * What an element takes over from the answer that replaces its content.
 *
 * Must not know: how it is fetched.
 */

const ATTRIBUTES = ["data-live-topic", "data-live-grant", "data-live-cursor"];
const SELECTOR = "[data-live-topic][data-live-grant]";

/**
 * The element gets topic and grant of the first of these elements that has both: content is swapped without its element's attributes.
 *
 * @param {Element} element
 * @param {(Element | null | undefined)[]} answers
 */
export function takeGrant(element, ...answers) {
  const answer = answers.find((each) => each?.matches(SELECTOR));
  for (const name of answer ? ATTRIBUTES : []) element.setAttribute(name, answer?.getAttribute(name) ?? "");
}
