/**
 * The subscriber's token: kept, renewed before it ends and after it was refused, by one request at a time.
 *
 * Owns: the current token and when it is renewed. Must not know: where tokens come from, what they are used for.
 */

/** @typedef {import("./types.js").TokenAnswer} TokenAnswer */
/** @typedef {ReturnType<typeof createTokens>} Tokens */

const LONGEST_TIMER_MS = 2 ** 31 - 1; // a longer one would fire at once
const PATIENCE_MS = 30_000; // after this long without an answer, the next caller asks again

/**
 * @param {string} [token]
 * @param {() => TokenAnswer | null | Promise<TokenAnswer | null>} [getToken]
 */
export function createTokens(token = "", getToken) {
  let current = "";
  let renewAt = Infinity;
  let askedAt = 0;
  let closed = false;
  /** @type {Promise<void> | null} */
  let asking = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  take(token);

  return {
    get,
    refuseToken,
    /** Whether the token has the claim `cancel`. */
    cancelsAll: () => claimsOf(current).cancel === true,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };

  /** The token to use now; "" if there is none. Rejects as `getToken` does, unless the old token may still be valid. */
  async function get() {
    if (getToken && (!current || Date.now() >= renewAt)) {
      await renew().catch((error) => {
        if (!current) throw error;
      });
    }
    return current;
  }

  /**
   * The service refused this token. Returns whether another can be requested.
   *
   * @param {string} [bad]  the current token by default
   */
  function refuseToken(bad = current) {
    if (bad === current) current = "";
    return Boolean(getToken);
  }

  function renew() {
    if (asking && Date.now() - askedAt < PATIENCE_MS) return asking;
    askedAt = Date.now();
    const request = Promise.resolve()
      .then(getToken)
      .then(take)
      .finally(() => {
        if (asking === request) asking = null;
      });
    asking = request;
    return request;
  }

  /** @param {TokenAnswer | null | undefined} answer */
  function take(answer) {
    const given = typeof answer === "string" ? { token: answer } : answer;
    current = given?.token ?? "";
    const lifeMs = 1000 * (given?.expires_in ?? leftOf(current));
    const leftMs = lifeMs - Math.min(60_000, lifeMs / 10);
    renewAt = Date.now() + leftMs;
    clearTimeout(timer);
    if (closed || !getToken || leftMs <= 0 || leftMs > LONGEST_TIMER_MS) return;
    timer = setTimeout(() => renew().catch(() => {}), leftMs); // after a failure, get() renews it
  }
}

/**
 * Seconds until a JWT expires. Infinity if the token does not say.
 *
 * The page's clock may be wrong; the lifetime, a difference of two server times, is not. If the clock disagrees by more
 * than nine tenths of the lifetime, the lifetime is used.
 *
 * @param {string} token
 * @returns {number}
 */
function leftOf(token) {
  const { exp, iat } = claimsOf(token);
  const left = exp - Date.now() / 1000;
  const life = exp - (iat ?? exp - left);
  return (left > life / 10 && left < life ? left : life) || Infinity;
}

/**
 * The user and the groups of a JWT as one string; "" if the token does not say.
 *
 * @param {string} [token]
 */
export function subjectOf(token = "") {
  const { sub, groups } = claimsOf(token);
  return sub ? JSON.stringify([sub, groups]) : "";
}

/** @param {string} token */
export function claimsOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))) ?? {};
  } catch {
    return {};
  }
}
