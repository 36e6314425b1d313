/**
 * The browser's own notifications: for a page with `<notifier-toasts native>`, while none of the site's tabs is looked at.
 *
 * Owns: when there may be one, and that one tab shows it. Must not know: where messages come from, what the page shows.
 */

const LOOKED_AT = "notifier looked at"; // a lock that every tab in sight holds together with the others
const OTHERS_MS = 5000; // by then the other tabs have heard of the message, too

/** Whether the user can still be asked, and the page wants it. Asking takes a press of the user. */
export const mayAsk = () =>
  globalThis.Notification?.permission === "default" && Boolean(document.querySelector("notifier-toasts[native]"));

export const askToNotify = () => Notification.requestPermission();

/** Tells the other tabs while this one is looked at. Answers a function that ends it. */
export function beLookedAt() {
  let release = () => {};
  const look = () => {
    release();
    if (document.hidden) return;
    const left = new Promise((resolve) => (release = () => resolve(null)));
    navigator.locks?.request(LOOKED_AT, { mode: "shared" }, () => left).catch(() => {});
  };
  look();
  document.addEventListener("visibilitychange", look);
  return () => {
    document.removeEventListener("visibilitychange", look);
    release();
  };
}

/**
 * Shows it, unless another tab does or one is looked at. The lock decides between tabs; the tag, where there are no locks.
 *
 * @param {string} id
 * @param {string} title
 * @param {string} body
 */
export async function notify(id, title, body) {
  if (!document.hidden || globalThis.Notification?.permission !== "granted") return;
  const show = () => {
    const shown = new Notification(title, { body, tag: id });
    shown.onclick = () => {
      window.focus();
      shown.close();
    };
  };
  if (!navigator.locks) return show();
  await navigator.locks.request(`notifier ${id}`, { ifAvailable: true }, async (lock) => {
    const { held: locks } = await navigator.locks.query();
    if (!lock || locks?.some(({ name }) => name === LOOKED_AT)) return;
    show();
    await new Promise((resolve) => setTimeout(resolve, OTHERS_MS));
  });
}
