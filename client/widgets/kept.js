/**
 * Lists of texts that are kept on the device, for all tabs of the site. Without storage (a browser that forbids it)
 * they are empty.
 *
 * Must not know: what the lists mean.
 */

const MOST = 1000; // entries; the oldest are forgotten

/** @param {string} name @returns {string[]} oldest first */
export function kept(name) {
  try {
    return JSON.parse(localStorage.getItem(`notifier ${name}`) ?? "[]");
  } catch {
    return [];
  }
}

/**
 * Adds an entry to a list, or removes it.
 *
 * @param {string} name
 * @param {string} entry
 * @param {boolean} isKept
 */
export function keep(name, entry, isKept) {
  const others = kept(name).filter((other) => other !== entry);
  try {
    localStorage.setItem(`notifier ${name}`, JSON.stringify(isKept ? [...others, entry].slice(-MOST) : others));
  } catch {
    // the choice lasts for no longer than this call
  }
}
