/**
 * What a page shows before it has a store: on a server, and while a page is hydrated.
 *
 * Must not know: frameworks.
 */

/** @type {import("./types.js").StoreState} */
const empty = {
  messages: [],
  unread: 0,
  more: false,
  loaded: false,
  failed: false,
  tasks: [],
  tasksLoaded: false,
  tasksFailed: false,
  connection: "connecting",
  connectionState: { state: "connecting", reason: "", since: 0, nextTryAt: 0 },
};
export const EMPTY = Object.freeze(empty);

/** The part of a state that an inbox shows. @param {import("./types.js").StoreState} state */
export const inboxOf = ({ messages, unread, more, loaded, failed }) => ({ messages, unread, more, loaded, failed });

/**
 * @param {import("./types.js").StoreState} state
 * @param {string} id
 */
export const taskOf = ({ tasks }, id) => tasks.find((task) => task.id === id) ?? null;
