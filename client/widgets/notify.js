/**
 * Native notifications: for a page with `<notifier-toasts native>`, while all tabs of the site are hidden.
 *
 * Owns: permission, and that one tab shows each notification. Must not know: where messages come from, the page.
 */

const LOOKED_AT = "notifier looked at"; // a shared lock that every visible tab holds
const OTHERS_MS = 5000; // by then the other tabs have received the message as well

/** Whether to ask for permission: the page wants it and the user has not decided. Asking needs a click. */
export const mayAsk = () =>
  globalThis.Notification?.permission === "default" && Boolean(document.querySelector("notifier-toasts[native]"));

export const askToNotify = () => Notification.requestPermission();

/** Holds the shared lock while this tab is visible. Returns a function that ends this. */
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
 * Shows a notification unless another tab shows it or a tab is visible. A lock decides between tabs; without locks, the
 * tag keeps them from showing two.
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
