/**
 * What a user has, as one observable value: messages, how many are unread, tasks, the connection.
 *
 *     const store = createStore(notifier);
 *     const stop = store.subscribe(({ messages, unread, tasks }) => draw(messages, unread, tasks));
 *
 * What the user does shows at once: it lies over what the service has told until the service answers. A refusal takes
 * it away again, and the call fails with it.
 *
 * Owns: that value, its truth over reconnects, tabs and devices. Must not know: pages, words, the stream.
 */

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Task} Task */
/** @typedef {import("./types.js").WireEvent} WireEvent */
/** @typedef {import("./types.js").News} News */
/** @typedef {import("./types.js").StoreState} StoreState */
/** @typedef {{ids: string[], unseen: number, remove: boolean}} Wish  what the user did and nobody has answered yet */

const MOST = 100; // messages a page of the inbox may have

/**
 * @param {ReturnType<typeof import("./notifier.js").connect>} notifier
 * @param {{pageSize?: number}} [options]
 */
export function createStore(notifier, { pageSize = 25 } = {}) {
  /** @type {Message[]} */
  let messages = []; // newest first, as the service told
  let unread = 0;
  let more = false;
  let loaded = false;
  /** @type {Map<string, Task>} */
  let tasks = new Map();
  let greeted = false; // what is there at the start is no news
  let countedTo = ""; // the cursor up to which the service's own count of unread ones reaches
  let lists = 0; // how often the list was begun anew
  /** @type {[Message, WireEvent][] | null} */
  let waiting = null; // messages that came while the list was being fetched
  let stale = false; // something happened that this fetch may not show
  /** @type {Set<Wish>} */
  const wishes = new Set();
  /** @type {StoreState | null} */
  let value = null; // null: to be made anew
  let telling = false; // soon
  /** @type {Set<(state: StoreState) => void>} */
  const subscribers = new Set();
  /** @type {Set<(news: News) => void>} */
  const listeners = new Set();

  const ends = [
    notifier.on("hello", begun),
    notifier.on("reset", begun),
    notifier.on("message", (message, event) => {
      waiting ? waiting.push([message, event]) : add(message, event);
      tell({ kind: "message", message });
    }),
    notifier.on("inbox", changed),
    notifier.on("task", (task) => take(task, true)),
    notifier.on("task.dismissed", ({ id }) => {
      tasks.delete(id);
      changedValue();
    }),
    notifier.on("state", changedValue),
  ];

  return {
    /** The present value. It is never changed; there is a new one when something has. @returns {StoreState} */
    get state() {
      return present();
    },
    /**
     * Calls `subscriber` now and after every change; answers a function that ends it.
     *
     * @param {(state: StoreState) => void} subscriber
     */
    subscribe(subscriber) {
      subscribers.add(subscriber);
      subscriber(this.state);
      return () => void subscribers.delete(subscriber);
    },
    /**
     * What happens while the page is open, one by one, as pop-ups need it; answers a function that ends it.
     *
     * @param {(news: News) => void} listener
     */
    onNews(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    /** @param {string | string[]} ids  ids, or "all" */
    read(ids) {
      const known = (ids === "all" ? messages : replacedBy(ids)).filter(({ read }) => !read);
      const unseen = ids === "all" ? unread - known.length : 0;
      if (!known.length && unseen <= 0) return Promise.resolve();
      return wish(known, { unseen, remove: false }, () =>
        notifier.markRead(ids === "all" ? ids : known.map(({ id }) => id)),
      );
    },
    /** @param {string} id */
    remove(id) {
      const all = replacedBy([id]);
      return wish(
        all,
        { unseen: 0, remove: true },
        async () =>
          /** @type {{unread: number}} */ (
            (await Promise.all(all.map((one) => notifier.deleteMessage(one.id)))).at(-1)
          ),
      );
    },
    /** Fetches the next page of older messages. */
    async older() {
      const list = lists;
      const page = await notifier.inbox({ limit: pageSize, before: messages.at(-1)?.id });
      if (list !== lists) return; // another list by now
      messages = messages.concat(page.messages.filter((one) => !isListed(one)));
      ({ more } = page);
      changedValue();
    },
    /** Lists the newest messages anew. */
    reload: load,
    /** @param {string} id */
    cancel: async (id) => take(await notifier.cancelTask(id), true),
    /** Forgets a task that has ended. @param {string} id */
    async dismiss(id) {
      const task = tasks.get(id);
      tasks.delete(id);
      changedValue();
      await notifier.dismissTask(id).catch((/** @type {unknown} */ error) => {
        if (task) tasks.set(id, task);
        changedValue();
        throw error;
      });
    },
    /** Ends it; the connection goes on. */
    close() {
      for (const end of ends) end();
    },
  };

  /**
   * @param {import("./types.js").Hello | import("./types.js").Reset} snapshot
   * @param {WireEvent} event
   */
  function begun(snapshot, { id }) {
    countedTo = id;
    ({ unread } = snapshot);
    takeAll(snapshot.tasks);
    void load(); // read elsewhere, deleted elsewhere: that is not replayed
  }

  function present() {
    value ??= look();
    return value;
  }

  function look() {
    let left = unread;
    let shown = messages;
    for (const { ids, unseen, remove } of wishes) {
      left -= unseen + shown.filter(({ id, read }) => !read && ids.includes(id)).length;
      shown = remove
        ? shown.filter(({ id }) => !ids.includes(id))
        : shown.map((one) => (ids.includes(one.id) ? { ...one, read: true } : one));
    }
    const keys = new Set();
    shown = shown.filter(({ data, read }) => {
      const isReplaced = data?.key && keys.has(data.key);
      keys.add(data?.key);
      if (isReplaced && !read) left -= 1;
      return !isReplaced;
    });
    const newest = [...tasks.values()].sort((a, b) => Date.parse(b.started_at) - Date.parse(a.started_at));
    return { messages: shown, unread: Math.max(0, left), more, loaded, tasks: newest, connection: notifier.state };
  }

  function changedValue() {
    value = null;
    if (telling) return; // many events come in one go, and those who subscribed draw once
    telling = true;
    queueMicrotask(() => {
      telling = false;
      for (const subscriber of subscribers) subscriber(present());
    });
  }

  /** @param {News} news */
  function tell(news) {
    for (const listener of listeners) listener(news);
  }

  /**
   * Messages, and those that are not shown because one of these came later under the same key.
   *
   * @param {string | string[]} ids
   */
  function replacedBy(ids) {
    const keys = messages.filter(({ id, data }) => data?.key && ids.includes(id)).map(({ data }) => data.key);
    return messages.filter(({ id, data }) => ids.includes(id) || keys.includes(data?.key));
  }

  /** @param {Message} wanted */
  function isListed(wanted) {
    return messages.some(({ id }) => id === wanted.id);
  }

  /** Lists the newest messages: what is held may be stale. */
  async function load() {
    stale = true;
    if (waiting) return;
    do {
      waiting = [];
      stale = false;
      lists += 1;
      const limit = Math.min(MOST, Math.max(pageSize, messages.length));
      const page = await notifier.inbox({ limit }).catch(() => null); // the next hello tries again
      if (page) {
        ({ messages, more, unread, cursor: countedTo } = page);
        loaded = true;
      }
      const late = waiting;
      waiting = null;
      for (const [message, event] of late) add(message, event);
      changedValue();
    } while (stale);
  }

  /**
   * @param {Message} message
   * @param {WireEvent} event
   */
  function add(message, event) {
    if (isListed(message)) return;
    messages = [{ ...message, read: false }, ...messages];
    if (isAfter(event.id, countedTo)) unread += 1;
    changedValue();
  }

  /** @param {import("./types.js").InboxChange} change */
  function changed({ read, deleted, unread: count }) {
    // Without ids it says only how many there are: the service knows that something changed, and not what.
    const isVague = !read.length && !deleted.length && count !== unread;
    messages = messages.filter(({ id }) => !deleted.includes(id));
    messages = messages.map((one) => (read.includes(one.id) ? { ...one, read: true } : one));
    unread = count;
    if (waiting || isVague || (!messages.length && more)) void load();
    changedValue();
  }

  /**
   * @param {Message[]} over  the messages it is about
   * @param {{unseen: number, remove: boolean}} what
   * @param {() => Promise<{unread: number}>} call
   */
  async function wish(over, { unseen, remove }, call) {
    const ids = over.map(({ id }) => id);
    const mine = { ids, unseen, remove };
    wishes.add(mine);
    changedValue();
    try {
      const { unread: left } = await call();
      wishes.delete(mine);
      // The stream may have told already, and more since then.
      const isNew = unseen > 0 || messages.some(({ id, read }) => ids.includes(id) && (remove || !read));
      if (isNew) changed({ read: remove ? [] : ids, deleted: remove ? ids : [], unread: left });
    } finally {
      wishes.delete(mine);
      changedValue();
    }
  }

  /** @param {Task[]} all  there are; others are gone */
  function takeAll(all) {
    const before = tasks;
    tasks = new Map();
    for (const task of all) {
      const old = before.get(task.id);
      if (old) tasks.set(task.id, old);
      take(task, greeted);
    }
    greeted = true;
    changedValue();
  }

  /**
   * Takes a task's state, unless a newer one is already here: the answer to a call and the event race.
   *
   * @param {Task} task
   * @param {boolean} isNews
   */
  function take(task, isNews) {
    const old = tasks.get(task.id);
    if (old && (Date.parse(old.updated_at) > Date.parse(task.updated_at) || old.ended_at)) return;
    tasks.set(task.id, task);
    changedValue();
    if (isNews && (!old || task.ended_at)) tell({ kind: "task", task });
  }
}

/**
 * Whether an event came after a cursor. Of another epoch: it did, there is no other order.
 *
 * @param {string} id
 * @param {string} cursor
 */
function isAfter(id, cursor) {
  const [epoch, seq] = id.split("-");
  const [cursorEpoch, cursorSeq] = cursor.split("-");
  return epoch !== cursorEpoch || Number(seq) > Number(cursorSeq);
}
