/**
 * `<notifier-toasts preferences="orders comments">`: the user chooses in the bell's panel what is shown as a toast: all of
 * it or nothing, and each kind (`data.kind` of a message). The choice is kept on the device; the inbox lists everything.
 *
 * Owns: the choices and their boxes. Must not know: toasts.
 */

import { el } from "../dom.js";
import { keep, kept } from "../kept.js";
import { say } from "../texts.js";

const MUTED = "muted"; // the list of muted kinds; "" stands for all toasts

/** @param {HTMLElement} _toasts */
export function begin(_toasts) {
  const decide = (/** @type {any} */ event) => {
    const { kind, message } = /** @type {any} */ (event).detail;
    const muted = kept(MUTED);
    if (muted.has("") || (kind === "message" && muted.has(message.data?.kind))) event.preventDefault();
  };
  document.addEventListener("notifier:news", decide);
  return () => document.removeEventListener("notifier:news", decide);
}

/** Shows a box for each choice. @param {HTMLElement} extras  the end of the bell's panel */
export function offer(extras) {
  const kinds = document.querySelector("notifier-toasts[preferences]")?.getAttribute("preferences") ?? "";
  const box = el("details", { part: "preferences" }, el("summary", {}, say("preferences")));
  for (const kind of ["", ...(kinds.match(/\S+/g) ?? [])]) {
    const choice = el("input", { type: "checkbox" });
    choice.checked = !kept(MUTED).has(kind);
    choice.addEventListener("change", () => keep(MUTED, [kind], !choice.checked));
    const label = kind ? kind.replaceAll("_", " ") : say("popUps");
    box.append(el("label", { class: "line", part: "preference" }, el("span", {}, label), choice));
  }
  extras.querySelector("details")?.remove();
  extras.prepend(box);
}
