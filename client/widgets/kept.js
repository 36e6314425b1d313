/**
 * Lists of texts that are kept on the device, for all tabs of the site. Without storage (a browser that forbids it)
 * they are empty.
 *
 * Owns: the lists as last read, until this page or another tab changes one. Must not know: what the lists mean.
 */

const MOST = 1000; // entries; the oldest are forgotten

/** @type {Map<string, Set<string>>} */
const read = new Map();
let isListening = false;

/** @param {string} name @returns {Set<string>} oldest first; not to be changed */
export function kept(name) {
  if (!isListening) addEventListener("storage", () => read.clear());
  isListening = true;
  const list = read.get(name) ?? stored(name);
  read.set(name, list);
  return list;
}

/** @param {string} name @returns {Set<string>} */
function stored(name) {
  try {
    return new Set(JSON.parse(localStorage.getItem(`notifier ${name}`) ?? "[]"));
  } catch {
    return new Set();
  }
}

/**
 * Adds entries to a list, or removes them.
 *
 * @param {string} name
 * @param {string[]} entries
 * @param {boolean} isKept
 */
export function keep(name, entries, isKept) {
  const others = [...stored(name)].filter((other) => !entries.includes(other));
  read.delete(name);
  try {
    localStorage.setItem(`notifier ${name}`, JSON.stringify(isKept ? [...others, ...entries].slice(-MOST) : others));
  } catch {
    // the choice lasts for no longer than this call
  }
}
