/**
 * The rows of a long list that are in view or near it. Two empty boxes stand for the rows above and below, so that the
 * page has a bounded number of elements and the list its whole height.
 *
 * Owns: which rows these are, and their heights. Must not know: what a row shows.
 */

import { el, keepInStep } from "./dom.js";

const NEAR_PX = 600; // rows this far outside the view are in the page as well
const GUESS_PX = 76; // the height of a row that was never shown

/**
 * @param {HTMLElement} list
 * @param {HTMLElement | null} scroller  the box that the list is scrolled in; null: the window
 */
export function createRows(list, scroller) {
  /** @type {Map<string, number>} */
  const heights = new Map();
  const above = el("div");
  const below = el("div");

  /** The view's edges, with what is near. */
  function view() {
    const { top, bottom } = scroller?.getBoundingClientRect() ?? { top: 0, bottom: Infinity };
    return [Math.max(0, top) - NEAR_PX, Math.min(innerHeight, bottom) + NEAR_PX];
  }

  /**
   * Shows the rows of these ids that are in view.
   *
   * @param {string[]} ids  of all rows
   * @param {(id: string, index: number) => HTMLElement} rowOf
   */
  function show(ids, rowOf) {
    const [top, bottom] = view();
    let y = above.getBoundingClientRect().top;
    let before = 0;
    let after = 0;
    /** @type {[string, HTMLElement][]} */
    const shown = [];
    ids.forEach((id, index) => {
      const height = heights.get(id) ?? GUESS_PX;
      if (y + height < top) before += height;
      else if (y > bottom) after += height;
      else shown.push([id, rowOf(id, index)]);
      y += height;
    });
    keepInStep(
      list,
      shown.map(([, row]) => row),
    );
    above.style.blockSize = `${before}px`;
    below.style.blockSize = `${after}px`;
    if (heights.size > 2 * ids.length + 100) heights.clear(); // of rows that are gone
    for (const [id, row] of shown) if (row.offsetHeight) heights.set(id, row.offsetHeight);
  }

  return {
    parts: [above, list, below],
    show,
    /** Whether the end of the list, which may be empty, is in view or near it. */
    isAtEnd() {
      const { bottom } = below.getBoundingClientRect();
      const [top, end] = view();
      return list.offsetWidth > 0 && bottom > top && bottom < end;
    },
  };
}
