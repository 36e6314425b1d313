/**
 * The modules that a widget loads when it is first shown, so that other pages do not load them.
 *
 * Owns: what shows where a module does not load. Must not know: what the modules show.
 */

import { labelled } from "./dom.js";
import { say } from "./texts.js";

/**
 * The module; null where the widget has ended. Where it does not load, the widget says so and offers to try again, then to
 * reload the page: Firefox keeps the failure of a module as long as the page.
 *
 * @template T
 * @param {import("./base.js").Widget} widget
 * @param {() => Promise<T>} load
 * @param {Element} note  the element that the offer follows
 * @param {"retry" | "reloadPage"} offer
 * @returns {Promise<T | null>}
 */
export async function loaded(widget, load, note, offer = "retry") {
  const { ends } = widget;
  const module = await load().catch(() => null);
  if (widget.ends !== ends) return null;
  if (module) return module;
  return new Promise((resolve) => {
    const again = labelled(`${say("notLoaded")} ${say(offer)}`, () => {
      if (offer === "reloadPage") return location.reload();
      again.remove();
      resolve(loaded(widget, load, note, "reloadPage"));
    });
    note.after(again);
  });
}
