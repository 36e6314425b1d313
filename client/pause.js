/**
 * The pause before a repeat.
 *
 * Must not know: what is repeated.
 */

const FIRST_MS = 2000; // the longest before the first repeat; each further one may take twice as long
const MOST_MS = 60_000;

/** Those that fail together do not return together. @param {number} failures  in a row, before this one */
export const pauseMs = (failures) => Math.min(FIRST_MS * 2 ** failures, MOST_MS) * (0.5 + Math.random() / 2);
