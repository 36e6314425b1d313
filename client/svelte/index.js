/**
 * Svelte (4 and newer): the store's parts as Svelte stores. The store itself is one: `$store.unread`.
 *
 *     const store = browser ? createStore(connect("/", { getToken })) : null;
 *     const inbox = inboxStore(store), task = taskStore(store, id);
 *
 * Without a store, as on a server, they have the empty state. Must not know: what a component shows.
 */

import { derived, readable } from "svelte/store";
import { EMPTY, inboxOf, taskOf } from "../empty.js";

/** @import { Readable } from "svelte/store" */
/** @typedef {ReturnType<typeof import("../store.js").createStore>} Store */
/** @typedef {import("../types.js").StoreState} StoreState */

/**
 * What the user has; see `store.state`.
 *
 * @param {Store | null} store
 * @returns {Readable<StoreState>}
 */
export const notifierStore = (store) => store ?? readable(EMPTY);

/** The messages, and what a user does with them. A call without a store does nothing. @param {Store | null} store */
export function inboxStore(store) {
  return {
    ...derived(notifierStore(store), inboxOf),
    read: async (/** @type {string | string[]} */ ids) => store?.read(ids),
    remove: async (/** @type {string} */ id) => store?.remove(id),
    older: async () => store?.older(),
  };
}

/**
 * A task in its newest state, or null while it is not known.
 *
 * @param {Store | null} store
 * @param {string} id
 */
export const taskStore = (store, id) => derived(notifierStore(store), (state) => taskOf(state, id));
