/**
 * A request in the user's name: with the token in a header, or with the cookie.
 *
 * Owns: the credential of a request. Must not know: paths, what responses mean beyond a 401.
 */

/** @typedef {ReturnType<typeof createRequest>} Request */

export const PATIENCE_MS = 15_000;
const JSON_TYPE = "application/json";

/**
 * @param {import("./token.js").Tokens | null} tokens  null: the cookie is the token
 * @param {typeof globalThis.fetch} fetch
 */
export function createRequest(tokens, fetch) {
  /**
   * A token that is refused with a 401 is discarded. Returns no response if there is no token.
   *
   * @param {URL} url
   * @param {RequestInit & {headers: Record<string, string>}} init
   */
  return async (url, init) => {
    const token = await tokens?.get();
    if (token === "") return null;
    if (token) init.headers.Authorization = `Bearer ${token}`;
    const response = await fetch(url, { cache: "no-store", credentials: tokens ? "same-origin" : "include", ...init });
    if (response.status === 401) tokens?.refuseToken(token);
    return response;
  };
}

/**
 * What a request needs that sends JSON, if it has a body, and receives JSON.
 *
 * @param {string} method
 * @param {object} [body]
 */
export function jsonCall(method, body) {
  /** @type {Record<string, string>} */
  const headers = { Accept: JSON_TYPE };
  if (body) headers["Content-Type"] = JSON_TYPE;
  return { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(PATIENCE_MS) };
}
