/**
 * The subscriber's token: kept, renewed before it ends and after it was refused, by one request at a time.
 *
 * Owns: the present token and when to ask for the next. Must not know: where tokens come from, what they open.
 */

/** @typedef {import("./types.js").TokenAnswer} TokenAnswer */
/** @typedef {ReturnType<typeof createTokens>} Tokens */

const LONGEST_TIMER_MS = 2 ** 31 - 1; // a longer one would fire at once
const PATIENCE_MS = 30_000; // after this the next caller asks again instead of waiting on

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
    refused,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };

  /** The token to use now; "" when there is none to be had. Fails as `getToken` fails, unless an old one may still do. */
  async function get() {
    if (getToken && (!current || Date.now() >= renewAt)) {
      await renew().catch((error) => {
        if (!current) throw error;
      });
    }
    return current;
  }

  /**
   * The service did not take this token. Answers whether asking for another makes sense.
   *
   * @param {string} [bad]  the present one when not given
   */
  function refused(bad = current) {
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
    timer = setTimeout(() => renew().catch(() => {}), leftMs); // one that fails is made up for by get()
  }
}

/**
 * Seconds that a JWT has left. Infinity for a token that does not tell.
 *
 * A page's clock may be wrong, and the difference of two of the server's times is not: where the two disagree by more
 * than nine tenths of the token's life, the clock is not believed.
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
 * Whom a JWT is for: user and groups, as one word. "" for a token that does not tell.
 *
 * @param {string} [token]
 */
export function subjectOf(token = "") {
  const { sub, groups } = claimsOf(token);
  return sub ? JSON.stringify([sub, groups]) : "";
}

/** @param {string} token */
function claimsOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))) ?? {};
  } catch {
    return {};
  }
}
