/**
 * Pop-ups: they come, wait while they are looked at, and go.
 *
 * Owns: the stack of pop-ups. Must not know: where they come from.
 */

import { byId, el, icon, iconButton } from "./dom.js";

const STAY_MS = 6000;
const MOST = 4; // one more, and the oldest goes

/** @typedef {"info" | "success" | "warning" | "error" | "debug" | "task"} Kind */

/**
 * Shows a pop-up.
 *
 * @param {Kind} kind
 * @param {string} title
 * @param {string} text
 */
export function toast(kind, title, text) {
  const stack = byId("toasts");
  const one = el("div", { class: "toast", "data-level": kind },
    icon(kind === "debug" ? "info" : kind),
    el("div", { class: "toast-body" }, el("strong", {}, title), ...(text ? [el("p", {}, text)] : [])),
    iconButton("close", "Close", () => leave(one)));
  stack.append(one);
  while (stack.childElementCount > MOST) stack.firstElementChild?.remove();
  stay(one);
}

/**
 * Runs a call to the service; its refusal becomes a pop-up.
 *
 * @param {() => Promise<unknown>} call
 */
export async function attempt(call) {
  try {
    await call();
  } catch (error) {
    toast("error", "That did not work", /** @type {Error} */ (error).message);
  }
}

/**
 * It goes by itself, but not from under a pointer or the focus.
 *
 * @param {HTMLElement} one
 */
function stay(one) {
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  const begin = () => {
    clearTimeout(timer);
    timer = setTimeout(() => leave(one), STAY_MS);
  };
  for (const type of ["pointerenter", "focusin"]) one.addEventListener(type, () => clearTimeout(timer));
  for (const type of ["pointerleave", "focusout"]) one.addEventListener(type, begin);
  begin();
}

/** @param {HTMLElement} one */
function leave(one) {
  one.classList.add("leaving");
  const gone = () => one.remove();
  one.addEventListener("animationend", gone, { once: true });
  setTimeout(gone, 400); // a page in the background animates nothing
}
