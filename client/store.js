/**
 * The store: what a user has, as one observable value (messages, unread count, tasks, connection state).
 *
 *     const store = createStore(notifier);
 *     const stop = store.subscribe(({ messages, unread, tasks }) => draw(messages, unread, tasks));
 *
 * What the user does shows at once, before the service answers. If the service refuses, the change is undone and the
 * promise of the call is rejected.
 *
 * Owns: the value, its subscribers, the tasks. Must not know: pages, texts, how messages are kept.
 */

import { createActions, createInbox } from "./messages.js";

/** @typedef {import("./types.js").Task} Task */
/** @typedef {import("./types.js").News} News */
/** @typedef {import("./types.js").StoreState} StoreState */
/** @typedef {import("./types.js").WireEvent} WireEvent */

const ASK_MS = 3000; // at most this long until a task's `cancellable` is asked for
const SNAPSHOT_MS = 500; // without a stream by then, the tasks are fetched

/**
 * @param {import("./messages.js").Notifier} notifier
 * @param {{pageSize?: number}} [options]  messages of one inbox page
 */
export function createStore(notifier, { pageSize = 25 } = {}) {
  const [get, changed, subscribe] = createValue(() => ({
    ...actions.get(),
    ...tasks.get(),
    connection: notifier.state,
    connectionState: notifier.connectionState,
  }));
  const inbox = createInbox(notifier, pageSize, changed);
  const actions = createActions(notifier, inbox, changed);
  const tasks = createTasks(notifier, changed, (task) => publish({ kind: "task", task }));
  /** @type {Set<(news: News) => void>} */
  const listeners = new Set();
  const ends = [
    notifier.on("hello", start),
    notifier.on("reset", start),
    notifier.on("message", (message, event) => {
      inbox.add(message, event);
      if (!message.edited) publish({ kind: "message", message });
    }),
    notifier.on("inbox", inbox.change),
    notifier.on("task", (task) => tasks.set(task)),
    notifier.on("task.dismissed", ({ id }) => void tasks.delete(id)),
    notifier.on("state", changed),
    notifier.on("connectionState", changed),
  ];
  // Beside the stream, which a proxy may hold back.
  void inbox.reload();
  const timer = setTimeout(tasks.load, SNAPSHOT_MS);
  return {
    /** What it was made of. */
    notifier,
    /** The present value. It is never mutated: a change makes a new one. @returns {StoreState} */
    get state() {
      return get();
    },
    /** Calls `subscriber` now and after every change. Returns a function that ends this. */
    subscribe,
    /**
     * Calls `listener` for every message that arrives and every task that starts or ends while the page is open.
     * Returns a function that ends this.
     *
     * @param {(news: News) => void} listener
     */
    onNews(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    read: actions.read,
    /** Deletes a message. With `consent` it is hidden at once, and deleted or shown again when that is known. */
    remove: actions.remove,
    older: inbox.older,
    async reload() {
      await Promise.all([inbox.reload(), tasks.load()]);
    },
    /** Starts an attempt at the connection now. */
    retry: () => notifier.retry(),
    /** @param {string} id */
    cancel: async (id) => tasks.set(await notifier.cancelTask(id)),
    /** Answers a task's question. @type {(id: string, question: string, value: string) => Promise<void>} */
    answer: tasks.answer,
    /** Whether the question is the one of its task that this page answered last, and was not refused. @type {(id: string, question: string) => boolean} */
    answersHere: tasks.answersHere,
    /** Removes a task that has ended. */
    dismiss: tasks.dismiss,
    /** Ends the store; the connection stays open. */
    close() {
      clearTimeout(timer);
      for (const end of ends) end();
    },
  };

  function start(/** @type {{unread: number, tasks: Task[]}} */ snapshot, /** @type {WireEvent} */ event) {
    tasks.begin(snapshot.tasks);
    inbox.begin(snapshot, event);
  }

  function publish(/** @type {News} */ news) {
    for (const listener of listeners) listener(news);
  }
}

/**
 * A value that is built when it is read. Subscribers are called in a microtask: once for all events of one chunk.
 *
 * @param {() => StoreState} build
 * @returns {[get: () => StoreState, changed: () => void, subscribe: (subscriber: (state: StoreState) => void) => () => void]}
 */
function createValue(build) {
  /** @type {StoreState | null} */
  let value = null; // null: out of date
  let isScheduled = false;
  /** @type {Set<(state: StoreState) => void>} */
  const subscribers = new Set();
  return [get, changed, subscribe];

  function get() {
    value ??= build();
    return value;
  }

  function changed() {
    value = null;
    if (isScheduled) return;
    isScheduled = true;
    queueMicrotask(() => {
      isScheduled = false;
      for (const subscriber of subscribers) subscriber(get());
    });
  }

  function subscribe(/** @type {(state: StoreState) => void} */ subscriber) {
    subscribers.add(subscriber);
    subscriber(get());
    return () => void subscribers.delete(subscriber);
  }
}

/**
 * The user's tasks, each in its newest known state.
 *
 * @param {import("./messages.js").Notifier} notifier
 * @param {() => void} changed
 * @param {(task: Task) => void} onNews  a task started or ended
 */
function createTasks(notifier, changed, onNews) {
  /** @type {Map<string, Task>} */
  let tasks = new Map();
  let hasSnapshot = false; // the tasks of the first snapshot are not news
  let failed = false; // the last load
  /** The question of each task that this page answered last: an event may arrive before the response. @type {Map<string, string>} */
  const answers = new Map();
  return { get, begin, set, delete: remove, dismiss, load, answer, answersHere };

  /** Newest first. */
  function get() {
    const newest = [...tasks.values()].sort((a, b) => Date.parse(b.started_at) - Date.parse(a.started_at));
    return { tasks: newest, tasksLoaded: hasSnapshot, tasksFailed: failed };
  }

  /** Loads the list, unless a stream brings it first and keeps it. */
  async function load() {
    if (hasSnapshot) return;
    const all = await notifier.tasks().catch(() => null);
    if (hasSnapshot) return;
    failed = !all;
    if (all) begin(all);
    else changed();
  }

  /** Takes a complete list: other tasks no longer exist. */
  function begin(/** @type {Task[]} */ all) {
    const before = tasks;
    tasks = new Map();
    for (const task of all) {
      const known = before.get(task.id);
      if (known) tasks.set(task.id, known);
      set(task, hasSnapshot);
    }
    for (const id of answers.keys()) if (!tasks.has(id)) answers.delete(id);
    hasSnapshot = true;
    failed = false;
    changed();
  }

  /** Ignores a state older than the known one: the answer of a call and the event arrive in either order. */
  function set(/** @type {Task} */ task, isNews = true) {
    const known = tasks.get(task.id);
    if (known && (Date.parse(known.updated_at) > Date.parse(task.updated_at) || known.ended_at)) return;
    // An event for several users does not say it for this one, nor for those with the claim `cancel`.
    const cancellable = notifier.cancelsAll || known?.cancellable || task.cancellable;
    tasks.set(task.id, { ...task, cancellable });
    if (!known && cancellable === null && !task.ended_at) ask(task.id);
    changed();
    const asks = task.question && task.question.id !== known?.question?.id;
    if (isNews && (!known || task.ended_at || asks)) onNews(task);
  }

  /** Asks whether this user may cancel a task of several users, not at once with all of them. */
  function ask(/** @type {string} */ id) {
    setTimeout(async () => {
      const task = await notifier.task(id).catch(() => null);
      const known = tasks.get(id);
      if (!task || !known) return;
      tasks.set(id, { ...known, cancellable: task.cancellable });
      changed();
    }, ASK_MS * Math.random());
  }

  /** @type {(id: string, question: string, value: string) => Promise<void>} */
  async function answer(id, question, value) {
    answers.set(id, question);
    try {
      set(await notifier.answerTask(id, question, value));
    } catch (error) {
      if (answersHere(id, question)) answers.delete(id);
      throw error;
    }
  }

  function answersHere(/** @type {string} */ id, /** @type {string} */ question) {
    return answers.get(id) === question;
  }

  async function dismiss(/** @type {string} */ id) {
    const task = remove(id);
    await notifier.dismissTask(id).catch((/** @type {unknown} */ error) => {
      if (task) set(task, false);
      throw error;
    });
  }

  function remove(/** @type {string} */ id) {
    const task = tasks.get(id);
    tasks.delete(id);
    answers.delete(id);
    changed();
    return task;
  }
}
