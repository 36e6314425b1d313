/**
 * `<notifier-bell>`: a bell with the number of unread messages; it opens the inbox.
 *
 * Owns: button and panel. Must not know: how messages are listed, tasks, pop-ups.
 */

import { PHONE, Widget } from "./base.js";
import { connectionNote } from "./connection.js";
import { el, icon, labelled } from "./dom.js";
import { define } from "./element.js";
import { inbox } from "./inbox.js";
import { say } from "./texts.js";

const EDGE = 8; // pixels between panel and window
const EXTRAS = { native: () => import("./options/native.js"), preferences: () => import("./options/preferences.js") };
const STOPS = "a, button, input, summary, [tabindex='0']"; // what Tab may reach

export class NotifierBell extends Widget {
  static css = `
    :host(:not([hidden])) { display: inline-block; position: relative; }
    [part=bell] { position: relative; min-inline-size: 2.5rem; min-block-size: 2.5rem; padding: 0.4rem; }
    [part=bell] svg { inline-size: 1.4rem; block-size: 1.4rem; }
    [part=badge] { position: absolute; inset-block-start: 0; inset-inline-end: 0; min-inline-size: 1.15rem; padding-inline: 0.25rem; border-radius: 1rem;
      border: 1px solid transparent; background: light-dark(#b3261e, #c8372e); color: #fff; font-size: 0.7rem; line-height: 1.15rem; }
    [part=panel] { position: absolute; inset-inline-end: 0; inset-block-start: 100%; z-index: var(--notifier-z, 1000); outline: 0; inline-size: min(24rem, calc(100vw - 2rem));
      max-block-size: min(32rem, 80vh); overflow: auto; padding: 0.75rem; background: var(--_surface); border: 1px solid var(--_line); border-radius: var(--_radius); box-shadow: var(--_shadow); overscroll-behavior: contain; }
    [part=close] { position: sticky; inset-block-start: 0; z-index: 2; margin-inline-start: auto; display: none; background: var(--_surface); }
    @media ${PHONE} {
      [part=panel] { position: fixed; inset: auto 0 0; inline-size: auto; max-block-size: calc(100dvh - 9rem); border-end-start-radius: 0; border-end-end-radius: 0;
        padding-block-end: max(0.75rem, env(safe-area-inset-bottom)); box-shadow: 0 0 0 100vmax #0006; }
      [part=close] { display: block; }
    }`;
  static options = {
    "title-count": () => import("./options/title.js"),
    "favicon-count": () => import("./options/favicon.js"),
  };

  /** @param {import("./base.js").Store} store */
  start(store) {
    const badge = el("span", { part: "badge", dir: "ltr", "aria-hidden": "true" });
    const bell = el("button", { type: "button", part: "bell", "aria-haspopup": "dialog" }, icon("bell"), badge);
    const live = el("div", { class: "sr", role: "status" });
    let words = "";
    const panel = el("div", { part: "panel", role: "dialog", "aria-label": say("messages"), tabindex: "-1" });
    const note = connectionNote(this, store, (isDim, next) => {
      bell.classList.toggle("dim", isDim);
      bell.title = next;
      if (next !== words) live.textContent = next; // the same words would be announced again
      words = next;
    });
    const close = labelled(say("close"), () => shut(), icon("close"));
    close.part.value = "close";
    const extras = el("div", { part: "extras" });
    panel.append(close, note, extras);
    this.root.append(bell, panel, live);

    const open = (/** @type {boolean} */ yes) => {
      if (panel.hidden !== yes) return; // another bell's panel may be open
      panel.hidden = !yes;
      for (const node of [this, ...document.querySelectorAll("notifier-toasts")])
        node.toggleAttribute("panel-open", yes);
      bell.ariaExpanded = String(yes);
      place();
    };
    /** Keeps the whole panel inside the window. */
    const place = () => {
      if (panel.hidden) return;
      panel.style.translate = "none";
      const { left, right, bottom } = panel.getBoundingClientRect();
      const isSheet = matchMedia(PHONE).matches;
      const edge = isSheet ? 0 : EDGE;
      const x = Math.max(edge - left, 0) || Math.min(innerWidth - edge - right, 0);
      // A header with a filter or a transform holds the fixed sheet. Small differences are the browser's own bars.
      const away = isSheet ? innerHeight - bottom : 0;
      panel.style.translate = `${x}px ${Math.abs(away) > innerHeight / 8 ? away : 0}px`;
    };
    open(false);
    for (const type of ["resize", "scroll"]) this.listen(window, type, place, { passive: true });
    /** @type {ReturnType<typeof inbox> | undefined} */
    let list;
    bell.addEventListener("click", async () => {
      open(Boolean(panel.hidden));
      if (panel.hidden) return;
      panel.focus();
      for (const [name, load] of Object.entries(EXTRAS))
        if (document.querySelector(`notifier-toasts[${name}]`)) load().then((option) => option.offer(extras, panel));
      list ??= inbox(this, store, panel, note);
      (await list)?.draw(); // its rows have a height now
    });
    const shut = () => {
      open(false);
      bell.focus();
    };
    const pressed = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape" && !panel.hidden) shut();
      if (event.key !== "Tab" || event.currentTarget !== panel) return;
      const stops = /** @type {HTMLElement[]} */ ([...panel.querySelectorAll(STOPS)]).filter(
        (stop) => stop.tabIndex >= 0 && stop.checkVisibility(),
      );
      const at = stops.indexOf(/** @type {HTMLElement} */ (this.root.activeElement));
      if (event.shiftKey ? at > 0 : at !== stops.length - 1) return;
      event.preventDefault();
      stops.at(event.shiftKey ? -1 : 0)?.focus();
    };
    panel.addEventListener("keydown", pressed);
    bell.addEventListener("keydown", pressed);
    const isKept = (/** @type {Element} */ node) => node === this || node.localName === "notifier-toasts";
    this.listen(document, "pointerdown", (event) => event.composedPath().some(isKept) || open(false));

    void this.extend(store);
    /** @type {number | null} */
    let before = null;
    this.ends.push(
      () => open(false),
      store.subscribe(({ unread, loaded, failed }) => {
        const isKnown = loaded || unread > 0;
        const label = isKnown ? say("unread", { n: unread }) : say(failed ? "notLoaded" : "loading");
        bell.ariaBusy = String(!isKnown && !failed);
        bell.ariaLabel = `${say("messages")}. ${label}`;
        if (before !== null && unread > before) live.textContent = label;
        before = loaded ? unread : null;
        badge.hidden = !unread;
        badge.textContent = unread > 99 ? "99+" : String(unread);
      }),
    );
  }
}

define("notifier-bell", NotifierBell);
