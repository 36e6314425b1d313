/**
 * A line that offers to undo what the user did, for 5 s and as long as the pointer or the focus is on it.
 *
 * Owns: when the offer ends. Must not know: what was done.
 */

import { el, labelled } from "./dom.js";
import { say } from "./texts.js";

const STAY_MS = 5000;

/**
 * @param {import("./base.js").Widget} widget
 * @param {HTMLElement} title  receives the focus when the line that has it is removed
 */
export function undoLine(widget, title) {
  const line = el("div", { part: "undo", class: "line", role: "status" });
  line.hidden = true;
  /** Ends the offer, once. @type {(isWanted: boolean) => void} */
  let settle = () => {};
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;

  function wait() {
    timer = setTimeout(() => (line.matches(":hover, :focus-within") ? wait() : settle(true)), STAY_MS);
  }

  /**
   * Shows the offer; a previous offer ends.
   *
   * @param {"removed" | "archived"} words
   * @returns {Promise<boolean>}  when it ends, or when the page is left: false, it was undone
   */
  function offer(words) {
    settle(true);
    line.replaceChildren(
      el("span", {}, say(words)),
      labelled(say("undo"), () => settle(false)),
    );
    line.hidden = false;
    wait();
    return new Promise((resolve) => {
      settle = (isWanted) => {
        clearTimeout(timer);
        if (line.contains(widget.root.activeElement)) title.focus({ preventScroll: true });
        line.hidden = true;
        resolve(isWanted);
      };
    });
  }

  const leave = () => settle(true);
  widget.listen(window, "pagehide", leave);
  widget.ends.push(leave);
  return { line, offer };
}
