/**
 * The demo: logs in, connects, and gives the widgets their store.
 *
 * Owns: the forms, the header, who is shown, which language. Must not know: how messages and tasks are shown.
 */

import { connect } from "../notifier.js";
import { byId } from "../pages/dom.js";
import { createStore } from "../store.js";
import { showWidgets } from "../widgets.js";
import { act, BASE, kept, logIn, logOut } from "./session.js";
import { showWire } from "./wire.js";

/** @typedef {import("./session.js").Login} Login */

const PAGE = 6;
/** @type {Record<string, string>} */
const NAMES = { ann: "Ann", bob: "Bob" };
const RIGHT_TO_LEFT = new Set(["ar", "he"]);
/** @type {Record<string, string>} */
const STATES = { connecting: "Connecting", live: "Live", degraded: "Degraded", offline: "Offline" };

const wanted = new URLSearchParams(location.search).get("user");
const login = kept(wanted);
if (login) enter(login);
else if (wanted && wanted in NAMES) void choose(wanted);
else askWho();

function askWho() {
  byId("login").hidden = false;
  for (const button of document.querySelectorAll("button.person")) {
    button.addEventListener("click", () => choose(/** @type {HTMLElement} */ (button).dataset.user ?? ""));
  }
}

/** @param {string} userId */
async function choose(userId) {
  try {
    enter(await logIn(userId));
  } catch (error) {
    if (byId("login").hidden) askWho();
    byId("login-fault").textContent = /** @type {Error} */ (error).message;
  }
}

/** @param {Login} login */
function enter({ user, token, curl }) {
  history.replaceState(null, "", `?user=${user.id}`); // a reload or a bookmark keeps this user
  byId("login").hidden = true;
  byId("app").hidden = false;
  showWho(user);
  showShell(curl);
  const notifier = connect(BASE, { token, getToken: async () => (await logIn(user.id)).token });
  notifier.on("state", showState);
  showWire(notifier);
  const store = createStore(notifier, { pageSize: PAGE });
  store.subscribe(({ unread }) => showUnread(unread, user.name));
  void speak(store);
  setUpForms();
  byId("logout").addEventListener("click", () => {
    notifier.close();
    logOut();
    location.assign(location.pathname);
  });
}

/**
 * The widgets in the language of the page's menu; the demo's own words stay English.
 *
 * @param {ReturnType<typeof createStore>} store
 */
async function speak(store) {
  /** @type {HTMLSelectElement} */
  const menu = byId("lang");
  const show = async () => {
    sessionStorage.setItem("notifier-demo-lang", menu.value);
    showWidgets(store, { texts: (await import(`../i18n/${menu.value}.js`)).default });
    for (const widget of document.querySelectorAll("notifier-bell, notifier-inbox, notifier-tasks, notifier-toasts")) {
      widget.setAttribute("lang", menu.value);
      widget.setAttribute("dir", RIGHT_TO_LEFT.has(menu.value) ? "rtl" : "ltr");
    }
  };
  menu.value = sessionStorage.getItem("notifier-demo-lang") ?? "en";
  menu.addEventListener("change", show);
  showWidgets(store); // at once, in English, until the language is loaded
  if (menu.value !== "en") await show();
}

/** @param {import("./session.js").User} user */
function showWho({ id, name }) {
  const other = Object.keys(NAMES).find((name) => name !== id) ?? id;
  byId("me").textContent = name;
  byId("avatar").textContent = name[0];
  byId("avatar").dataset.user = id;
  byId("to").replaceChildren(new Option(NAMES[other], other), new Option(`${name} (yourself)`, id));
  /** @type {HTMLInputElement} */ (byId("send").querySelector("[name=subject]")).value = `Hello from ${name}`;
  byId("other-tab-text").textContent = `Open as ${NAMES[other]}`;
  byId("other-tab").setAttribute("href", `?user=${other}`);
}

/** @param {string} [curl] */
function showShell(curl) {
  byId("shell").hidden = !curl;
  byId("curl").textContent = curl ?? "";
  byId("copy").addEventListener("click", async () => {
    const done = await navigator.clipboard?.writeText(curl ?? "").then(
      () => true,
      () => false,
    );
    byId("copied").textContent = done ? "Copied" : "Select the text and copy it";
  });
}

/**
 * @param {import("../types.js").State} state
 * @param {import("../types.js").StateDetail} detail
 */
function showState(state, { reason, final }) {
  byId("state").dataset.state = state;
  byId("state").title = reason;
  byId("state-text").textContent = final ? `${STATES[state]} (${reason})` : STATES[state];
}

/**
 * @param {number} unread
 * @param {string} name
 */
function showUnread(unread, name) {
  document.title = `${unread ? `(${unread}) ` : ""}${name} · notifier demo`;
}

function setUpForms() {
  /** @type {HTMLFormElement} */
  const send = byId("send");
  onSubmit(send, "sent", async ({ to, subject, text, level }) => {
    const { watched } = await act("demo/messages", { to, subject, text, level });
    /** @type {HTMLTextAreaElement} */ (send.elements.namedItem("text")).value = "";
    return watched ? `Sent. ${NAMES[to]} has a page open.` : `Stored. ${NAMES[to]} will get it on the next visit.`;
  });
  onSubmit(byId("start"), "started", async ({ name, seconds }) => {
    await act("demo/tasks", { name, seconds: Number(seconds) });
    return "";
  });
  byId("seconds").addEventListener("input", (event) => {
    byId("seconds-text").textContent = `${/** @type {HTMLInputElement} */ (event.target).value} s`;
  });
}

/**
 * @param {HTMLFormElement} form
 * @param {string} outputId
 * @param {(fields: Record<string, string>) => Promise<string>} call  returns the text to show
 */
function onSubmit(form, outputId, call) {
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button[type=submit]"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true; // one click sends one message
    byId(outputId).textContent = "";
    const fields = /** @type {Record<string, string>} */ (Object.fromEntries(new FormData(form)));
    try {
      byId(outputId).textContent = await call(fields);
    } catch (error) {
      document.dispatchEvent(new CustomEvent("notifier:failed", { detail: error })); // shown as a toast by the widgets
    }
    button.disabled = false;
  });
}
