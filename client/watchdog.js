/**
 * The watchdog of an attempt: a stream without a byte for too long has ended, whatever the browser says.
 *
 * Owns: how long a silence may last. Must not know: what follows one.
 */

const FIRST_MS = 8000; // until the first byte: the service answers within a second, a proxy that buffers never
const HEARTBEAT_MS = 15_000; // until `hello` says otherwise
const MISSED = 2.5; // heartbeats; with more missing the stream has ended

/** @param {(wasSilent: boolean) => void} onSilence  `wasSilent`: not one byte came in this attempt */
export function createWatchdog(onSilence) {
  let heartbeatMs = HEARTBEAT_MS;
  let lastByteAt = 0;
  let isFirst = true; // no byte has come
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return { begin, feed, open, check, stop };

  function begin() {
    isFirst = true;
    lastByteAt = Date.now();
    check();
  }

  function feed() {
    isFirst = false;
    lastByteAt = Date.now();
  }

  /** The stream's `hello` came. */
  function open(/** @type {any} */ hello) {
    if (hello?.heartbeat_s > 0) heartbeatMs = 1000 * hello.heartbeat_s;
    feed();
    check();
  }

  /** Looks now, as timers of a hidden page are late. */
  function check() {
    stop();
    const limitMs = isFirst ? FIRST_MS : MISSED * heartbeatMs;
    const leftMs = lastByteAt + limitMs - Date.now();
    if (leftMs <= 0) return onSilence(isFirst);
    timer = setTimeout(check, Math.min(leftMs, limitMs)); // a clock that was set back must not delay it
  }

  function stop() {
    clearTimeout(timer);
  }
}
