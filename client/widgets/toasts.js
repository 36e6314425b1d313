/**
 * `<notifier-toasts>`: pop-ups for messages and tasks. A toast stays while the pointer or the focus is on it; many
 * messages at once become one toast.
 *
 * Owns: the stack. Must not know: lists of messages and tasks.
 */

import { PHONE, Widget } from "./base.js";
import { el, icon, labelled, link, picture } from "./dom.js";
import { define } from "./element.js";
import { say, senderOf, statusOf } from "./texts.js";

/** @typedef {import("../types.js").Level} Level */
/** @typedef {import("../types.js").Message} Message */
/** @typedef {import("../types.js").Task} Task */
/** @typedef {import("../types.js").News} News */

const STAY_MS = 6000;
const MOST = 4; // toasts beside questions; another removes the oldest, warnings and errors last
const STORM = 3; // more messages at once are shown as one toast with their number
const GATHER_MS = 100; // without a new message, the gathered ones are shown
const LONGEST_MS = 1000; // the longest time that a gathered message waits

/** @type {Record<number, "signedOut" | "forbidden" | "gone" | "busy" | "unreachable">} */
const REASONS = {
  401: "signedOut",
  403: "forbidden",
  404: "gone",
  409: "gone",
  429: "busy",
  502: "unreachable",
  503: "unreachable",
  504: "unreachable",
};
const FINAL = new Set([401, 403, 404, 409]); // statuses that a repeat does not change

export class NotifierToasts extends Widget {
  static css = `
    :host { --_from: var(--notifier-toasts-offset, 1rem); position: fixed; inset-block: auto var(--_from); inset-inline: auto 1rem; margin-inline: auto; inline-size: min(22rem, calc(100vw - 2rem)); z-index: var(--notifier-z, 1000); }
    :host([position^=top]) { inset-block: var(--_from) auto; }
    :host([position$=start]) { inset-inline: 1rem auto; }
    :host([position=top]), :host([position=bottom]) { inset-inline: 1rem; }
    [part=toast] { display: flex; gap: 0.6rem; align-items: start; margin-block-start: 0.5rem; padding: 0.7rem 0.6rem 0.7rem 0.8rem; background: var(--_surface);
      border: 1px solid var(--_line); border-inline-start: 4px solid var(--_level); border-radius: var(--_radius); box-shadow: var(--_shadow); animation: rise 0.2s; }
    @keyframes rise { from { opacity: 0; translate: 0 0.8rem; } }
    .body { flex: 1; min-inline-size: 0; overflow-wrap: anywhere; }
    .body button { margin-inline-start: -0.35rem; color: var(--_accent); }
    strong + a { margin-inline-start: 0.4em; }
    .body > .text, [part=title]:has(+ .text) { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; overflow: hidden; }
    [part=title]:has(+ .text) { -webkit-line-clamp: 3; }
    /* Above the bell's sheet, which lists the messages. */
    @media ${PHONE} {
      :host([panel-open]) { inset-block: 0 auto; max-block-size: 9rem; overflow: auto; z-index: calc(var(--notifier-z, 1000) + 1); }
      :host([panel-open]) .message { display: none; }
      :host([panel-open]) [part=stack] { display: flex; flex-direction: column-reverse; }
    }`;
  polite = el("div", { role: "status", part: "stack" });
  urgent = el("div", { role: "alert", part: "stack" });
  region = el("div", { role: "region" }, this.urgent, this.polite);
  /** @type {Message[]} */
  messages = []; // gathered, the newest: a replay arrives at once, and a hidden page shows no toasts
  count = 0; // of all that were gathered
  /** @type {Map<string, Task>} */
  tasks = new Map();
  /** Called for news that may be shown. @type {Set<(news: News) => void>} */
  listeners = new Set();
  static options = {
    native: () => import("./options/native.js"),
    preferences: () => import("./options/preferences.js"),
    sound: () => import("./options/sound.js"),
  };

  /** Keeps the toasts: they need no store, and a page may move the element. */
  clear() {
    this.region.ariaLabel = say("notifications");
    this.root.append(this.region);
    this.toggleAttribute("panel-open", !!document.querySelector("notifier-bell[panel-open]"));
  }

  /** @param {import("./base.js").Store} store */
  start(store) {
    let since = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const gather = () => {
      clearTimeout(timer);
      since ||= Date.now();
      timer = setTimeout(tell, Math.max(0, Math.min(GATHER_MS, since + LONGEST_MS - Date.now())));
    };
    const tell = () => {
      if (document.hidden) return;
      for (const task of this.tasks.values()) this.task(task, store);
      this.tasks.clear();
      const late = this.messages.splice(0);
      const n = this.count;
      since = this.count = 0;
      if (n > STORM) return void this.show("info", say("away", { n })).classList.add("message");
      for (const message of late) {
        const { level, subject, text, url, data, actions } = message;
        const show = (/** @type {Node | null} */ action) =>
          this.show(level, `${senderOf(message)}: ${subject}`, text, action, data?.key, picture(message)).classList.add(
            "message",
          );
        const shown = (/** @type {typeof import("./actions.js")} */ { actionsOf }) => {
          const buttons = actionsOf(actions ?? [], this, () => buttons.closest("[part=toast]")?.remove());
          show(buttons);
        };
        if (actions) import("./actions.js").then(shown, () => show(link(url)));
        else show(link(url));
      }
    };
    /** @param {News} news */
    const isWanted = (news) =>
      document.dispatchEvent(new CustomEvent("notifier:news", { detail: news, cancelable: true }));
    /** @param {Task} task */
    const take = (task) => (document.hidden ? void this.tasks.set(task.id, task) : this.task(task, store));
    let isFirst = true; // the first list of tasks is no news, but what it asks is still open
    /** @param {{tasks: Task[], tasksLoaded: boolean}} state */
    const begun = async ({ tasks, tasksLoaded }) => {
      if (!tasksLoaded || !isFirst) return;
      isFirst = false;
      await ready;
      for (const task of tasks) if (task.question && isWanted({ kind: "task", task })) take(task);
    };
    for (const old of this.root.querySelectorAll("[part=question]")) old.closest("[part=toast]")?.remove();
    const ready = this.extend(store); // preferences decide what is shown
    gather();
    this.listen(document, "notifier:failed", (event) => this.failure(event));
    this.listen(document, "visibilitychange", tell);
    this.ends.push(
      store.onNews(async (news) => {
        await ready;
        if (!isWanted(news)) return;
        for (const listener of this.listeners) listener(news);
        if (news.kind === "task") return take(news.task);
        this.count += 1;
        this.messages = [...this.messages, news.message].slice(-STORM);
        gather();
      }),
      store.subscribe(begun),
      () => clearTimeout(timer),
    );
  }

  /**
   * A call that failed, in the page's language: the service's own words are English.
   *
   * @param {CustomEvent & {what?: "notRead", retry?: () => void}} event  see `Widget.attempt`
   */
  failure({ detail, what, retry }) {
    const status = detail?.status ?? 0;
    const reason = REASONS[status] ?? (status ? "broken" : "unreachable");
    const again = labelled(say("retry"), () => {
      /** @type {HTMLElement} */ (again.closest("[part=toast]")).remove();
      retry?.();
    });
    this.show("error", say(what ?? "failed"), say(reason), retry && !FINAL.has(status) ? again : null, what);
  }

  /**
   * @param {Task} task
   * @param {import("./base.js").Store} store
   */
  task(task, store) {
    if (task.question) return void this.question(task, store);
    /** @type {Partial<Record<import("../types.js").TaskStatus, Level>>} */
    const levels = { succeeded: "success", failed: "error", cancelled: "warning" };
    const result = link(task.url, task.url_text);
    this.show(
      levels[task.status] ?? "info",
      `${task.name}: ${statusOf(task)}`,
      task.error ?? task.state,
      result,
      task.id,
    );
  }

  /**
   * A question stays until it is answered, here or on another device. A page loads the module with the first question.
   *
   * @param {Task} task
   * @param {import("./base.js").Store} store
   */
  async question(task, store) {
    const { ends } = this;
    const module = await import("./question.js").catch(console.error);
    if (ends !== this.ends) return;
    if (!module) return void this.show("info", task.name, task.question?.text);
    const { box, update } = module.questionOf(this, store, task.id);
    this.adopt(module.QUESTION_CSS);
    update(task);
    const key = `question ${task.id}`;
    this.show("info", task.name, "", box, key);
    const stop = store.subscribe(({ tasks }) => {
      const present = tasks.find(({ id }) => id === task.id);
      if (present && present.question?.id === task.question?.id) return;
      if (present && !present.question) update(present);
      const toast = /** @type {HTMLElement | null} */ (box.closest("[part=toast]"));
      if (box.querySelector("[role=status]")?.textContent && toast) this.stay(toast);
      else toast?.remove();
      queueMicrotask(() => stop());
    });
    this.ends.push(() => stop());
  }

  /**
   * @param {Level} level
   * @param {string} title
   * @param {string} [text]
   * @param {Node | null} [action]
   * @param {unknown} [key]  replaces the toast with the same key
   * @param {Element} [image]  beside the text; the level's by default
   */
  show(level, title, text = "", action = null, key = "", image = picture({ level })) {
    const stack = level === "error" || level === "warning" ? this.urgent : this.polite;
    const toast = el(
      "div",
      { class: level, part: "toast" },
      image,
      el(
        "div",
        { class: "body" },
        el("strong", { part: "title" }, title),
        text ? el("p", { class: "text", part: "text" }, text) : null,
        action,
      ),
      labelled(say("close"), () => toast.remove(), icon("close")),
    );
    for (const old of this.root.querySelectorAll("[data-key]"))
      if (key && /** @type {HTMLElement} */ (old).dataset.key === `${key}`) old.remove();
    if (key) toast.dataset.key = `${key}`;
    stack.append(toast);
    const all = [...this.polite.children, ...this.urgent.children].filter(
      (old) => !old.querySelector("[part=question]"),
    );
    if (all.length > MOST) all.find((old) => old !== toast)?.remove();
    // Time to decide.
    if (
      !(action instanceof HTMLButtonElement) &&
      !(/** @type {Element | null} */ (action)?.matches("[part=question], [part=actions]"))
    )
      this.stay(toast);
    return toast;
  }

  /** Removes a toast after a time, unless the pointer or the focus is on it. @param {HTMLElement} toast */
  stay(toast) {
    /** @type {ReturnType<typeof setTimeout>} */
    let timer;
    const wait = () => {
      clearTimeout(timer);
      if (!toast.matches(":hover, :focus-within"))
        timer = setTimeout(() => (document.hidden ? wait() : toast.remove()), STAY_MS);
    };
    for (const type of ["pointerenter", "pointerleave", "focusin"]) toast.addEventListener(type, wait);
    toast.addEventListener("focusout", () => setTimeout(wait));
    wait();
  }
}

define("notifier-toasts", NotifierToasts);
