/**
 * Events of the page that concern connections: it is shown, hidden, put in the back-forward cache, or online again.
 *
 * Owns: adding and removing the listeners (Node has no such events). Must not know: what the events lead to.
 */

/**
 * Adds listeners to the window. Returns a function that removes them.
 *
 * @param {Record<string, (event: any) => void>} handlers  by event type
 */
export function onPage(handlers) {
  const controller = new AbortController();
  const { signal } = controller;
  // `visibilitychange` bubbles from the document to the window.
  for (const type in handlers) globalThis.addEventListener?.(type, handlers[type], { signal });
  return () => controller.abort();
}
