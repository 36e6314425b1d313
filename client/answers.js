/**
 * The answer to the fetch of a live part: whether the part takes it.
 *
 * An answer from another address (a login) leaves the part as it is. Where there is none, as while the page's server is away, the part gets
 * the DOM event `live-failed`, which bubbles: it is to be fetched again.
 *
 * Must not know: topics, who swaps the answer in.
 */

export const PATIENCE_MS = 15_000;

/**
 * @param {Element} part
 * @param {string} asked   the address that was fetched
 * @param {string} url     the address that answered
 * @param {number} status  0: no answer
 */
export function accepts(part, asked, url, status) {
  if (status && status !== 429 && status < 500) return addressOf(asked) === addressOf(url);
  part.dispatchEvent(new Event("live-failed", { bubbles: true }));
  return false;
}

/** @param {string} url */
const addressOf = (url) => new URL(url, document.baseURI).href.split("#")[0];

/**
 * Fetches a page for a part, past the browser's cache, whose answer may be older than the event.
 *
 * A document of XMLHttpRequest is parsed without running scripts, and needs no policy under Trusted Types.
 *
 * @param {HTMLElement} part
 * @param {URL | string} url
 * @param {(answer: Document | null) => void} take  null: the part stays as it is
 */
export function fetchPage(part, url, take) {
  const request = new XMLHttpRequest();
  request.open("GET", url);
  request.responseType = "document";
  request.timeout = PATIENCE_MS;
  request.setRequestHeader("Accept", "text/html");
  request.setRequestHeader("Cache-Control", "no-cache");
  request.setRequestHeader("Notifier-Live", "true");
  request.onloadend = () => {
    const { status, responseURL, response } = request;
    take(part.isConnected && accepts(part, String(url), responseURL, status) && status === 200 ? response : null);
  };
  request.send();
  return request;
}
