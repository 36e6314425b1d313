/**
 * `<notifier-bell title-count>`: the number of unread messages before the page's title, as in "(3) Orders".
 *
 * Owns: that number. The title stays the page's: it may change it at any time.
 */

const MAX_TITLES = 100;

/** @type {Map<string, string>} */
const titles = new Map(); // the page's own title by what was put in its place: a cache of pages may show that again

/** @param {unknown} _bell @param {import("../base.js").Store} store */
export function begin(_bell, store) {
  const put = (/** @type {number} */ unread) => {
    const title = titles.get(document.title) ?? document.title;
    const next = unread ? `(${unread > 99 ? "99+" : unread}) ${title}`.trim() : title;
    if (document.title === next) return;
    titles.delete(next); // it is the newest
    titles.set(next, title);
    titles.delete(/** @type {string} */ ([...titles.keys()].at(-MAX_TITLES))); // the oldest
    document.title = next;
  };
  const watch = new MutationObserver(() => put(store.state.unread));
  watch.observe(document.head, { subtree: true, childList: true, characterData: true });
  const stop = store.subscribe(({ unread }) => put(unread));
  return () => {
    watch.disconnect();
    stop();
    put(0);
  };
}
