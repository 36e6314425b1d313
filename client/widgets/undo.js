/**
 * A line that offers to undo what the user did, for 5 s and as long as the pointer or the focus is on it.
 *
 * Owns: when the offer ends. Must not know: what was done.
 */

import { button, el } from "./dom.js";
import { say } from "./texts.js";

const STAY_MS = 5000;

/**
 * @param {import("./base.js").Widget} widget
 * @param {HTMLElement} title  receives the focus when the line that has it is removed
 */
export function undoLine(widget, title) {
  const line = el("div", { part: "undo", class: "line", role: "status" });
  line.hidden = true;
  /** @type {(isUndone: boolean) => void} */
  let settle = () => {};
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;

  function wait() {
    timer = setTimeout(() => (line.matches(":hover, :focus-within") ? wait() : settle(false)), STAY_MS);
  }

  /**
   * Shows the offer; a previous offer ends. Calls `done` when it ends, or when the page is left.
   *
   * @param {"removed" | "archived"} words
   * @param {(isUndone: boolean) => void} done
   */
  function offer(words, done) {
    settle(false);
    settle = (isUndone) => {
      clearTimeout(timer);
      if (line.contains(widget.root.activeElement)) title.focus({ preventScroll: true });
      line.hidden = true;
      settle = () => {};
      done(isUndone);
    };
    line.replaceChildren(
      el("span", {}, say(words)),
      button(say("undo"), say("undo"), () => settle(true)),
    );
    line.hidden = false;
    wait();
  }

  const leave = () => settle(false);
  widget.listen(window, "pagehide", leave);
  widget.ends.push(leave);
  return { line, offer };
}
