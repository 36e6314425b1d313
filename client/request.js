/**
 * A request in the user's name: with the token in a header, or with the cookie.
 *
 * Owns: how a request says whose it is. Must not know: addresses, what answers mean beyond a 401.
 */

/** @typedef {ReturnType<typeof createRequest>} Request */

/**
 * @param {import("./token.js").Tokens | null} tokens  null: the cookie is the token
 * @param {typeof globalThis.fetch} fetch
 */
export function createRequest(tokens, fetch) {
  /**
   * A token that is refused with a 401 is forgotten. No answer: there is no token to be had.
   *
   * @param {URL} url
   * @param {RequestInit & {headers: Record<string, string>}} init
   */
  return async (url, init) => {
    const token = await tokens?.get();
    if (token === "") return null;
    if (token) init.headers.Authorization = `Bearer ${token}`;
    const response = await fetch(url, { cache: "no-store", credentials: tokens ? "same-origin" : "include", ...init });
    if (response.status === 401) tokens?.refused(token);
    return response;
  };
}
