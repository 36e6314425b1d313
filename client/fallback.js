/**
 * Which transport the next attempt uses: the stream, or polls where a proxy holds streams back.
 *
 * Owns: the two silent tries. Must not know: how either is read, timers.
 */

/** @typedef {import("./transport.js").OpenLink} OpenLink */

const MAX_SILENT = 2; // streams in a row without a byte; then polls

/**
 * @param {OpenLink} openStream
 * @param {OpenLink} openPoll
 */
export function createFallback(openStream, openPoll) {
  let silent = 0; // streams in a row
  let usesPolls = false; // the next attempt
  let isPoll = false; // the present attempt
  let isHeld = false; // polls worked where streams did not: one silent stream is enough
  return {
    /** @type {OpenLink} */
    open(...args) {
      isPoll = usesPolls;
      return (isPoll ? openPoll : openStream)(...args);
    },
    /** The attempt has its `hello`. Returns whether it polls. */
    opened() {
      isHeld = isPoll;
      silent = 0;
      return isPoll;
    },
    /**
     * The attempt has ended. Returns whether the next one follows at once: polls, instead of the stream.
     *
     * @param {boolean} wasSilent  without a byte
     */
    ended(wasSilent) {
      silent = isPoll ? Number(!isHeld) : wasSilent ? silent + 1 : 0;
      usesPolls = !isPoll && silent >= (isHeld ? 1 : MAX_SILENT);
      return usesPolls;
    },
    /** The next attempt is a stream. `isElsewhere`: in another network, of which nothing is known. */
    tryStream(isElsewhere = false) {
      usesPolls = false;
      silent = 0;
      if (isElsewhere) isHeld = false;
    },
  };
}
