/**
 * Elements that are live: `<tr data-live-topic="shop.order:7">`. When their topic has an event, or is stale, each gets a DOM event `live`
 * (htmx: `hx-trigger="live"`); a `<turbo-frame>` with a source reloads, a `<notifier-live>` fetches. It gets another after a pause when its
 * fetch has failed (`live-failed`). An answer (`live-answered`) has the events until its fetch; those of an element that is replaced before
 * go to the elements in its place (`handOn`). When a topic is heard no longer, each gets `live-ended` with the reason.
 *
 * The grants are in the page (`data-live-grant`, `data-live-cursor`), also in parts that are swapped in later.
 *
 * Owns: which elements show what, when they get their event. Must not know: how topics are heard, what elements do.
 */

import { watchFrameworks } from "./frameworks.js";
import { readData } from "./parse.js";
import { pauseMs, persist } from "./pause.js";

/** @typedef {import("./handle.js").TopicHandle} Handle */
/** @typedef {{topic: string, type: string, data?: any, isDue?: boolean}} Detail  `type`: of the event, or `stale`; `isDue`: for its next grant */
/** @typedef {{timer?: ReturnType<typeof setTimeout>, detail: Detail, failures: number}} Due  `failures`: of its fetches, in a row */

/**
 * @typedef {object} Share  what an element's grant lets all elements of the page hear
 * @property {string} grant
 * @property {Set<string>} names  its topics; until it is open, and after they have ended, none
 * @property {boolean} isOpen  or it does not open
 * @property {() => void} close
 * @property {Promise<unknown>} [shown]  its people are
 */

const SELECTOR = "[data-live-topic]";
const GRANT = "[data-live-grant]";
const BLIND = '[data-live-cursor="-"]'; // it cannot be known what is newer
const SETTLING = ".htmx-added"; // htmx marks the elements that it swaps in, and listens to them when it takes the mark off
const UNDEFINED = "notifier-live:not(:defined)"; // its module does not load
const SETTLE_MS = 20;
const RESET_SPREAD_S = 2; // open streams are reset together
const OPENING_MS = 5000; // a reset within this after a hello is one of a stream that has just opened: those open at random
const HANDED_ON = 0.5; // an event that went with another element: by itself it is not handed on again
const OWN_EVENTS = new Set(["hello", "reset", "topics", "presence", "stale", "task", "inbox"]);

/**
 * Watches the document.
 *
 * @param {any} notifier
 * @param {(grants: string[]) => Promise<any>} renew
 * @param {string} [texts]  the URL of the texts in the page's language
 */
export function watchPage(notifier, renew, texts) {
  /** @type {Map<Element, Share>} */
  const granted = new Map();
  /** @type {Set<Share>} of elements that are gone or have another grant, the oldest first */
  const parted = new Set();
  /** @type {Map<Element, Due>} */
  const due = new Map();
  /** What elements were told last. @type {WeakMap<Element, Due>} */
  const told = new WeakMap();
  /** Events that the answers to elements' fetches may not have. @type {Map<Element, number>} */
  const unanswered = new Map();
  const eventsOf = (/** @type {Element} */ element) => unanswered.get(element) ?? 0;
  let hasParts = false; // `<notifier-live>`
  let helloAt = 0;
  const reloadFrame = watchFrameworks();
  new MutationObserver(scan).observe(document, {
    subtree: true,
    childList: true,
    attributeFilter: ["data-live-grant", "data-live-topic"],
  });
  notifier.on("*", (/** @type {any} */ { event, data }) => {
    if (event === "hello") comeBack();
    if (OWN_EVENTS.has(event) || !(granted.size + parted.size)) return;
    const value = readData(data);
    if (typeof value?.topic === "string") tell(value.topic, { topic: value.topic, type: event, data: value });
  });
  document.addEventListener("live-failed", repeat);
  document.addEventListener("live-answered", answered);
  document.addEventListener("visibilitychange", () => document.hidden || repeatAll());
  scan();

  function scan() {
    /** @type {(readonly [Element, Share])[]} */
    const gone = [];
    for (const [element, share] of granted) {
      if (element.isConnected && element.getAttribute("data-live-grant") === share.grant) continue;
      granted.delete(element);
      // Who sees the user by this grant must not outlive the element; the tags share it with no other.
      if (element.localName === "notifier-presence") gone.push([element, share]);
      else parted.add(share);
    }
    for (const element of document.querySelectorAll(GRANT)) if (!granted.has(element)) hear(element);
    // A topic that is shown again in a new element stays; with the next grant the element goes on from the handle before.
    for (const [element, { close }] of gone) void Promise.resolve(granted.get(element)?.shown).then(close);
    if (parted.size) closeUnneeded();
    handOn();
    if (!hasParts && document.querySelector("notifier-live")) {
      hasParts = true;
      void persist(() => import("./widgets/live.js")).then(repeatAll);
    }
  }

  /**
   * The fetch of an element may begin before an event, or not at all, and another element come in its place: where no cursor says
   * what is older, that one is fetched again.
   */
  function handOn() {
    const missed = [];
    for (const [element, events] of unanswered) {
      if (element.isConnected) continue;
      if (events >= 1 || due.has(element)) missed.push(...namesOf(element));
      unanswered.delete(element);
    }
    if (!missed.length || !document.querySelector(BLIND)) return;
    for (const topic of missed)
      for (const element of elementsOf(topic)) {
        if (unanswered.get(element)) continue;
        plan(element, { topic, type: "stale" }, 0);
        unanswered.set(element, HANDED_ON);
      }
  }

  /** One of its events began the fetch; the others are fetched next. @param {any} event */
  function answered({ target }) {
    unanswered.set(target, Number(eventsOf(target) > 1));
  }

  /** What an element's grant opened stays while another element shows a topic of it that no newer grant has. */
  function closeUnneeded() {
    const needed = new Set([...document.querySelectorAll(SELECTOR)].flatMap(namesOf));
    for (const { names } of granted.values()) for (const name of names) needed.delete(name);
    for (const share of [...parted].reverse()) {
      const kept = [...share.names].filter((name) => needed.delete(name));
      if (!share.isOpen || kept.length) continue;
      parted.delete(share);
      share.close();
    }
  }

  function hear(/** @type {Element} */ element) {
    const grant = element.getAttribute("data-live-grant") ?? "";
    const since = element.getAttribute("data-live-cursor") ?? "";
    /** @type {Share} */
    const share = { grant, names: new Set(), isOpen: false, close };
    granted.set(element, share);
    const last = told.get(element);
    if (last) last.detail = { ...last.detail, isDue: false }; // this is the next grant
    /** @type {Set<string>} */
    const over = new Set(); // topics that may have ended before the handle is there
    const begun = (/** @type {Partial<Handle>} */ { topics }) => {
      share.isOpen = true;
      share.names = new Set(topics?.filter((name) => !over.has(name)));
      if (parted.size) closeUnneeded();
    };
    const isNeeded = () => granted.get(element) === share || parted.has(share);
    // A grant that does not open, as where the module for it does not load, has no topics until it does; it goes with its element.
    const open = () => notifier.topic(grant, { since, renew, onStale: stale, onEnded: forget });
    /** @type {Promise<Handle | undefined>} */
    const opening = persist(() => open().catch(fail), isNeeded);
    void opening.then((handle) => handle && begun(handle));
    if (element.localName === "notifier-presence")
      share.shown = Promise.all([persist(() => import("./widgets/presence.js"), isNeeded), opening])
        .then(([people, handle]) => (handle && isNeeded() ? people?.showPeople(element, handle, texts) : undefined))
        .catch(console.error);

    function close() {
      void opening.then((handle) => handle?.close());
    }

    function fail(/** @type {unknown} */ error) {
      begun({});
      throw error;
    }

    function forget(/** @type {string[]} */ names, /** @type {string} */ reason) {
      for (const name of names) {
        over.add(name);
        share.names.delete(name);
      }
      onEnded(names, reason);
    }
  }

  /** @param {string[]} names @param {boolean | "reset"} [why]  true: the view is to give the next grant */
  function stale(names, why) {
    const isCrowd = why === "reset" && Date.now() - helloAt > OPENING_MS;
    for (const name of names)
      tell(name, { topic: name, type: "stale", isDue: why === true }, isCrowd ? RESET_SPREAD_S : 0);
  }

  /** What has expired: the view gets another chance to decide, its answer has the next grant. */
  function onEnded(/** @type {string[]} */ names, /** @type {string} */ reason) {
    const shares = [...granted.values(), ...parted];
    for (const topic of names.filter((name) => !shares.some((share) => share.names.has(name)))) {
      for (const element of elementsOf(topic))
        element.dispatchEvent(new CustomEvent("live-ended", { detail: { topic, reason } }));
    }
    if (reason === "expired") stale(names, true);
  }

  /** @param {string} name @param {Detail} detail @param {number} [spreadS] */
  function tell(name, detail, spreadS = Number(detail.data?.spread_s) || 0) {
    for (const element of elementsOf(name)) plan(element, detail, Math.random() * spreadS * 1000);
  }

  /** A fetch that has failed, as while the page's server is away, is repeated. @param {{target: EventTarget | null}} event */
  function repeat({ target }) {
    const element = /** @type {Element} */ (target);
    const last = told.get(element);
    if (last) plan(element, last.detail, pauseMs(last.failures), last.failures + 1);
  }

  /** What has failed before is fetched at once. */
  function comeBack() {
    helloAt = Date.now();
    repeatAll();
  }

  function repeatAll() {
    for (const [element, { detail, failures }] of due) if (failures) plan(element, detail, 0);
  }

  /**
   * Several events until the timer are one; an event ends the pause before a repeat.
   *
   * @param {Element} element
   * @param {Detail} detail
   * @param {number} delayMs
   * @param {number} [failures]  above 0: a repeat
   */
  function plan(element, detail, delayMs, failures = 0) {
    const planned = due.get(element);
    if (planned) {
      const isDue = detail.isDue || planned.detail.isDue;
      detail = { ...(failures ? planned.detail : detail), isDue };
      planned.detail = detail;
      if (failures || !planned.failures) return;
      clearTimeout(planned.timer);
    }
    /** @type {Due} */
    const next = { detail, failures, timer: undefined };
    due.set(element, next);
    // What shows people fetches nothing but its next grant.
    if (!failures && (detail.isDue || element.localName !== "notifier-presence"))
      unanswered.set(element, eventsOf(element) + 1);
    if (!failures || !document.hidden) next.timer = setTimeout(send, delayMs);

    function send() {
      if (element.closest(SETTLING)) next.timer = setTimeout(send, SETTLE_MS);
      else if (due.delete(element) && element.isConnected) dispatch(element, next);
    }
  }

  /** @param {Element} element @param {Due} next */
  function dispatch(element, next) {
    const { detail } = next;
    // A fetch for the next grant may be under way, and fail: a repeat is for it until the grant is there.
    told.set(element, { ...next, detail: { ...detail, isDue: detail.isDue || told.get(element)?.detail.isDue } });
    const goesOn = element.dispatchEvent(new CustomEvent("live", { detail, cancelable: true }));
    if (goesOn && element.localName === "turbo-frame" && element.hasAttribute("src")) reloadFrame(element);
    if (element.matches(UNDEFINED)) repeat({ target: element });
  }
}

/** @param {string} name */
const elementsOf = (name) =>
  [...document.querySelectorAll(SELECTOR)].filter((element) => namesOf(element).includes(name));

/** @param {Element} element */
const namesOf = (element) => (element.getAttribute("data-live-topic") ?? "").split(" ").map(decoded);

/** @param {string} name  of the page's author, perhaps as it is */
function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
