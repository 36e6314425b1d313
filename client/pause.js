/**
 * Repeats, and the pause before each.
 *
 * Must not know: what is repeated.
 */

const FIRST_MS = 2000; // the longest before the first repeat; each further one may take twice as long
const MOST_MS = 60_000;

/** Those that fail together do not return together. @param {number} failures  in a row, before this one */
export const pauseMs = (failures) => Math.min(FIRST_MS * 2 ** failures, MOST_MS) * (0.5 + Math.random() / 2);

/**
 * Repeats what fails, as loading a module, until it succeeds. Each failure is reported.
 *
 * @template T
 * @param {() => Promise<T>} action
 * @param {() => boolean} [isNeeded]
 * @returns {Promise<T | undefined>}  undefined: it is not needed any more
 */
export async function persist(action, isNeeded = () => true) {
  for (let failures = 0; isNeeded(); failures++) {
    try {
      return await action();
    } catch (error) {
      console.error(error);
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs(failures)));
  }
  return undefined;
}
