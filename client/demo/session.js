/**
 * The tab's user: log in, keep the token for this tab only, call the demo's backend.
 *
 * Owns: the demo's backend and the tab's session storage. Must not know: the stream, the page.
 */

import { ServiceError } from "../notifier.js";

/** @typedef {{id: string, name: string}} User */
/** @typedef {{user: User, token: string, expires_in: number, curl?: string}} Login */

/** The service's URL: the demo's folder, also behind a proxy that adds a prefix. */
export const BASE = new URL(".", location.href);

const KEY = "notifier-demo";
const PATIENCE_MS = 15_000;

/**
 * The login stored for this tab, if it belongs to this user.
 *
 * @param {string | null} userId  null: any user
 * @returns {Login | null}
 */
export function kept(userId) {
  const login = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  return login && (userId === null || login.user.id === userId) ? login : null;
}

/**
 * Logs in and stores the login for this tab.
 *
 * @param {string} userId
 * @returns {Promise<Login>}
 */
export async function logIn(userId) {
  const login = await post("demo/login", { user: userId });
  sessionStorage.setItem(KEY, JSON.stringify(login));
  return login;
}

export function logOut() {
  sessionStorage.removeItem(KEY);
}

/**
 * Calls the demo's backend as the tab's user; again with a new token if the old one has expired.
 *
 * @param {string} path
 * @param {object} body
 */
export async function act(path, body) {
  const login = /** @type {Login} */ (kept(null));
  try {
    return await post(path, body, login.token);
  } catch (error) {
    if (!(error instanceof ServiceError) || error.status !== 401) throw error;
    return post(path, body, (await logIn(login.user.id)).token);
  }
}

/**
 * @param {string} path
 * @param {object} body
 * @param {string} [token]
 */
async function post(path, body, token) {
  const response = await fetch(new URL(path, BASE), {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new ServiceError(response.status, answer ?? undefined);
  return answer;
}
