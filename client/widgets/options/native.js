/**
 * `<notifier-toasts native>`: native notifications, while all tabs of the site are hidden.
 *
 * Owns: permission, and that one tab shows each notification. Must not know: where messages come from, the page.
 */

import { el } from "../dom.js";
import { say, senderOf } from "../texts.js";

const LOOKED_AT = "notifier looked at"; // a shared lock that every visible tab holds
const OTHERS_MS = 5000; // by then the other tabs have received the message as well

/** @param {import("../base.js").Listening} toasts  @returns a function that ends this */
export function begin(toasts) {
  const end = beLookedAt();
  const listen = (/** @type {import("../../types.js").News} */ news) => {
    if (news.kind !== "message") return;
    const { message } = news;
    // Chrome on Android allows no notifications from a page; the toast is shown in any case.
    notify(message.id, `${senderOf(message)}: ${message.subject}`, message.text).catch(() => {});
  };
  toasts.listeners.add(listen);
  return () => {
    toasts.listeners.delete(listen);
    end();
  };
}

/**
 * Offers to ask for permission, as long as the user has not decided: asking needs a click.
 *
 * @param {HTMLElement} extras  the end of the bell's panel
 * @param {HTMLElement} panel  receives the focus of the button, which is gone then
 */
export function offer(extras, panel) {
  extras.querySelector("[part~=notify]")?.remove();
  if (globalThis.Notification?.permission !== "default") return;
  const button = el("button", { type: "button", part: "button notify" }, say("notify"));
  button.addEventListener("click", async () => {
    panel.focus();
    await Notification.requestPermission();
    offer(extras, panel);
  });
  extras.append(button);
}

/** Holds the shared lock while this tab is visible. Returns a function that ends this. */
function beLookedAt() {
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
async function notify(id, title, body) {
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
