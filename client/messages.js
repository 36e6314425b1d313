/**
 * The messages of a store: the inbox as the service has it, and the user's actions on it.
 *
 * An action (read, remove) is pending until the service answers, and applied to the inbox where it is shown. If the
 * service refuses it, the action is dropped; the inbox was never changed.
 *
 * Owns: the list and the unread count, right over reconnects, tabs and devices. Must not know: subscribers, tasks.
 */

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").InboxChange} InboxChange */
/** @typedef {ReturnType<typeof import("./notifier.js").connect>} Notifier */
/** @typedef {{messages: Message[], unread: number, more: boolean, loaded: boolean, failed: boolean}} Inbox  see StoreState */

/**
 * What the user did: the messages, how many messages become read beyond the listed ones, and whether the messages are
 * deleted (else they become read). It is undone if `consent` becomes false.
 *
 * @typedef {[ids: string[], unlisted: number, isRemoval: boolean, consent?: Promise<boolean>]} Action
 */

const MAX_PAGE = 100; // messages in one inbox page; the service's limit
const KEPT = 500; // messages that stay listed while new ones arrive, unless the user has asked for more

/**
 * The inbox as the service has it.
 *
 * @param {Notifier} notifier
 * @param {number} pageSize
 * @param {() => void} changed
 */
export function createInbox(notifier, pageSize, changed) {
  /** @type {Message[]} */
  let messages = []; // newest first
  let unread = 0;
  let more = false;
  let most = KEPT; // messages that are listed
  let loads = { loaded: false, failed: false };
  let countedTo = ""; // cursor: `unread` counts the messages up to this event
  let generation = 0; // of the list: each load that replaces it starts a new one
  /** @type {[Message, WireEvent][] | null} */
  let pending = null; // messages that arrive during a load; null: no load is running
  let stale = false; // the running load may miss a change
  /** @type {{unread: number, cursor: string} | null} */
  let begun = null; // at a hello during the first load, which has nothing to add if it has the same
  return { get: () => ({ messages, unread, more, ...loads }), begin, add, change, reload, older };

  /** A `hello` or `reset`: takes its count and loads the list, as changes made elsewhere are not replayed. */
  function begin(/** @type {{unread: number}} */ snapshot, /** @type {WireEvent} */ event) {
    countedTo = event.id;
    unread = snapshot.unread;
    if (pending && !loads.loaded && event.event === "hello") begun = { unread, cursor: countedTo };
    else void reload();
  }

  function add(/** @type {Message} */ message, /** @type {WireEvent} */ event) {
    if (pending) return void pending.push([message, event]);
    const isKnown = idsOf(messages).includes(message.id);
    if (message.edited) {
      messages = messages.map((old) => (old.id === message.id ? { ...message, read: old.read } : old));
      if (!isKnown) void reload(); // the list knows its place
      return changed();
    }
    if (isKnown) return;
    const replaced = messages.find(({ id }) => id === message.replaces);
    messages = [{ ...message, read: false }, ...messages.filter((old) => old !== replaced)];
    if (messages.splice(most).length) more = true;
    if (isAfter(event.id, countedTo)) unread += replaced && !replaced.read ? 0 : 1;
    if (message.replaces && !replaced) void reload(); // whether it was read is not known here
    changed();
  }

  function change(/** @type {InboxChange} */ { read, deleted, unread: count }) {
    // A change without ids: the service knows the new count, but not which messages changed.
    const isVague = !read.length && !deleted.length && count !== unread;
    messages = asRead(without(messages, deleted), read);
    unread = count;
    if (pending || isVague || (!messages.length && more)) void reload();
    changed();
  }

  /** Loads as many messages as are listed; again if something changed meanwhile. */
  async function reload() {
    stale = true;
    if (pending) return; // the running load looks at `stale`
    do {
      pending = [];
      stale = false;
      const limit = Math.min(MAX_PAGE, Math.max(pageSize, messages.length));
      const page = await notifier.inbox({ limit }).catch(() => null); // failed: the next `hello` loads again
      loads = { loaded: loads.loaded || page !== null, failed: page === null };
      if (begun) stale ||= page?.unread !== begun.unread || page.cursor !== begun.cursor;
      begun = null;
      if (page) {
        ({ messages, more, unread, cursor: countedTo } = page);
        generation += 1;
      }
      const late = pending;
      pending = null;
      for (const [message, event] of late) add(message, event);
      changed();
    } while (stale);
  }

  /** Loads the next page of older messages. Returns the ids of all messages once there is no older one. */
  async function older() {
    const started = generation;
    const page = await notifier.inbox({ limit: pageSize, before: messages.at(-1)?.id });
    if (started !== generation) return undefined; // the list was loaded again meanwhile
    messages = [...messages, ...without(page.messages, idsOf(messages))];
    most = Math.max(KEPT, messages.length);
    ({ more } = page);
    changed();
    return more ? undefined : idsOf(messages);
  }
}

/**
 * The user's actions.
 *
 * @param {Notifier} notifier
 * @param {ReturnType<typeof createInbox>} inbox
 * @param {() => void} changed
 */
export function createActions(notifier, inbox, changed) {
  /** @type {Set<Action>} */
  const pending = new Set();
  return { get: () => shown(inbox.get(), pending), read, remove };

  /**
   * @param {string | string[]} ids  ids, or "all"
   * @param {Promise<boolean>} [consent]  the messages are shown as read until this is known, and afterwards if it is true
   */
  async function read(ids, consent) {
    const { messages, unread } = inbox.get();
    const isAll = ids === "all";
    const targets = idsOf((isAll ? messages : withKeysOf(messages, ids)).filter((message) => !message.read));
    const unlisted = isAll ? unread - targets.length : 0;
    if (!targets.length && unlisted <= 0) return;
    await run([targets, unlisted, false, consent], () => notifier.markRead(isAll ? ids : targets));
  }

  /**
   * @param {string} id
   * @param {Promise<boolean>} [consent]  the message is hidden until this is known, and back if it is false
   */
  function remove(id, consent) {
    const ids = idsOf(withKeysOf(inbox.get().messages, [id]));
    return run([ids, 0, true, consent], async () =>
      (await Promise.all(ids.map((target) => notifier.deleteMessage(target)))).at(-1),
    );
  }

  /**
   * @param {Action} action
   * @param {() => Promise<{unread: number} | null>} call
   */
  async function run(action, call) {
    const [ids, unlisted, isRemoval, consent] = action;
    pending.add(action);
    changed();
    try {
      const answer = (!consent || (await consent)) && (await call());
      if (!answer) return;
      const { unread } = answer;
      // The stream may have reported this change already, and later changes after it.
      const isNew =
        unlisted > 0 || inbox.get().messages.some(({ id, read }) => ids.includes(id) && (isRemoval || !read));
      if (isNew) inbox.change({ read: isRemoval ? [] : ids, deleted: isRemoval ? ids : [], unread });
    } finally {
      pending.delete(action);
      changed();
    }
  }
}

/**
 * The inbox after these actions. Of messages with the same `data.key` the newest is shown; the others are replaced by it.
 *
 * @param {Inbox} inbox
 * @param {Iterable<Action>} actions
 * @returns {Inbox}
 */
function shown({ messages, unread, ...rest }, actions) {
  for (const [ids, unlisted, isRemoval] of actions) {
    unread -= unlisted + messages.filter(({ id, read }) => !read && ids.includes(id)).length;
    messages = isRemoval ? without(messages, ids) : asRead(messages, ids);
  }
  const keys = new Set();
  messages = messages.filter(({ data, read }) => {
    const isReplaced = data?.key && keys.has(data.key);
    keys.add(data?.key);
    if (isReplaced && !read) unread -= 1;
    return !isReplaced;
  });
  return { messages, unread: Math.max(0, unread), ...rest };
}

/**
 * The messages with these ids, and the messages that they replace.
 *
 * @param {Message[]} messages
 * @param {string | string[]} ids
 */
function withKeysOf(messages, ids) {
  const keys = messages.filter(({ id, data }) => data?.key && ids.includes(id)).map(({ data }) => data.key);
  return messages.filter(({ id, data }) => ids.includes(id) || keys.includes(data?.key));
}

/** @param {Message[]} messages */
const idsOf = (messages) => messages.map(({ id }) => id);

const without = (/** @type {Message[]} */ messages, /** @type {string[]} */ ids) =>
  messages.filter(({ id }) => !ids.includes(id));

const asRead = (/** @type {Message[]} */ messages, /** @type {string[]} */ ids) =>
  messages.map((message) => (ids.includes(message.id) ? { ...message, read: true } : message));

/**
 * Whether an event came after a cursor. Epochs have no order: an event of another epoch counts as later.
 *
 * @param {string} id
 * @param {string} cursor
 */
function isAfter(id, cursor) {
  const [epoch, seq] = id.split("-");
  const [cursorEpoch, cursorSeq] = cursor.split("-");
  return epoch !== cursorEpoch || +seq > +cursorSeq;
}
