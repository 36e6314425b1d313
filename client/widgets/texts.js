/**
 * The texts of the widgets in the page's language: sentences, numbers, durations.
 *
 * Owns: the language. Must not know: elements, which widget shows a text.
 */

import en from "../i18n/en.js";

/** @typedef {import("../types.js").Task} Task */
/** @typedef {import("../types.js").Texts} Texts */

/** @type {Texts} */
let texts = en;

/** Sets the texts of all widgets; English ones by default. @param {Texts} [next]  a file of i18n/ */
export function useTexts(next) {
  texts = next ?? en;
}

/**
 * A text in the page's language; `n` selects the plural form.
 *
 * @param {Exclude<keyof Texts, "status">} key
 * @param {{n?: number, name?: string, time?: string, value?: string}} [values]
 */
export function say(key, { n = 0, ...rest } = {}) {
  const text = texts[key];
  const forms = /** @type {Record<string, string>} */ (typeof text === "string" ? { other: text } : text);
  const form = forms[new Intl.PluralRules(texts.lang).select(n)] ?? forms.other;
  /** @type {Record<string, string>} */
  const values = { n: new Intl.NumberFormat(texts.lang).format(n), ...rest };
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** @param {Task} task */
export const statusOf = ({ status }) => texts.status[status];

/** The page's language. */
export const lang = () => texts.lang;

/** @param {number} percent */
export const percentText = (percent) => new Intl.NumberFormat(texts.lang, { style: "percent" }).format(percent / 100);

/** @param {Task} task  percent and remaining time */
export function howFar({ percent, done, eta_s: eta, status, ended_at: ended }) {
  const far = percent === null ? (ended ? "" : say("soFar", { n: done })) : percentText(percent);
  if (ended || !eta || status !== "running") return far; // 0: the first item took no measurable time
  const minutes = eta / 60;
  const time =
    eta < 90 ? duration(eta, "second") : minutes < 90 ? duration(minutes, "minute") : duration(minutes / 60, "hour");
  return `${far} · ${say("left", { time })}`;
}

/**
 * @param {number} count  rounded up
 * @param {"second" | "minute" | "hour"} unit
 */
export const duration = (count, unit) =>
  new Intl.NumberFormat(texts.lang, { style: "unit", unit }).format(Math.ceil(count));

/** The sender as shown. @param {import("../types.js").Message} message */
export const senderOf = ({ from }) => from?.name ?? from?.id ?? say("system");
