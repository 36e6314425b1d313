/**
 * Times as people say them.
 *
 * Must not know: what happened then.
 */

import { lang } from "./texts.js";

const DAY_MS = 86_400_000;

/** Midnights between this time and now. @param {number} time  in ms since 1970 */
export const daysAgo = (time) =>
  Math.round((new Date().setHours(0, 0, 0, 0) - new Date(time).setHours(0, 0, 0, 0)) / DAY_MS);

/**
 * @param {number} count
 * @param {"second" | "minute" | "hour" | "day"} unit
 */
export const relative = (count, unit) =>
  new Intl.RelativeTimeFormat(lang(), { numeric: "auto", style: "short" }).format(count, unit);

/** A time as its distance from now, or its date where that is more than a week. @param {number} time  in ms since 1970 */
export function ago(time) {
  const minutes = Math.floor((Date.now() - time) / 60_000);
  const days = daysAgo(time);
  if (minutes < -1 || days > 6) return new Intl.DateTimeFormat(lang(), { dateStyle: "medium" }).format(time);
  if (minutes < 1) return relative(0, "second");
  if (minutes < 60) return relative(-minutes, "minute");
  return days ? relative(-days, "day") : relative(-Math.floor(minutes / 60), "hour");
}
