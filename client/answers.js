/**
 * The answer to the fetch of a live part: whether the part takes it.
 *
 * An answer from another address (a login) leaves the part as it is; a last slash makes no other address. The part gets the DOM event
 * `live-answered`, or `live-failed` where there is none, as while the page's server is away: it is to be fetched again. Both bubble.
 *
 * Must not know: topics, who swaps the answer in.
 */

import { PATIENCE_MS } from "./request.js";

/**
 * @param {Element} part
 * @param {string} asked   the address that was fetched
 * @param {string} url     the address that answered
 * @param {number} status  0: no answer
 */
export function accepts(part, asked, url, status) {
  const isAnswer = status && status !== 429 && status < 500;
  part.dispatchEvent(new Event(isAnswer ? "live-answered" : "live-failed", { bubbles: true }));
  if (!isAnswer) return false;
  const isSame = addressOf(asked) === addressOf(url);
  if (!isSame) console.warn(`The live part ${asked} stays as it is: the answer is from ${url}`);
  return isSame;
}

/** @param {string} url */
function addressOf(url) {
  const { origin, pathname, search } = new URL(url, document.baseURI);
  return origin + pathname.replace(/\/$/, "") + search;
}

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
  request.onloadend = () => {
    const { status, responseURL, response } = request;
    take(part.isConnected && accepts(part, String(url), responseURL, status) && status === 200 ? response : null);
  };
  request.send();
}
