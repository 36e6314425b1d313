/**
 * React (18 and newer): the store in components.
 *
 *     const store = typeof window === "undefined" ? null : createStore(connect("/", { getToken }));
 *     <NotifierProvider store={store}><App /></NotifierProvider>
 *
 * On a server and while a page is hydrated, the hooks return the empty state. Must not know: what a component shows.
 */

import { createContext, createElement, useContext, useMemo, useSyncExternalStore } from "react";
import { EMPTY, inboxOf, taskOf } from "../empty.js";

/** @import { ReactNode } from "react" */
/** @typedef {ReturnType<typeof import("../store.js").createStore>} Store */
/** @typedef {import("../types.js").StoreState} StoreState */
/** @typedef {typeof import("../jsx/react.d.ts")} Elements  the elements in JSX */

const Context = createContext(/** @type {Store | null} */ (null));

/**
 * Gives the store to the components below. null: there is none (yet).
 *
 * @param {{store: Store | null, children?: ReactNode}} props
 */
export function NotifierProvider({ store, children }) {
  return createElement(Context.Provider, { value: store }, children);
}

/** The store, for its calls; null without one. */
export const useStore = () => useContext(Context);

/** What the user has; see `store.state`. @returns {StoreState} */
export const useNotifier = () => useSelected((state) => state);

/** The messages, and what a user does with them. A call without a store does nothing. */
export function useInbox() {
  const store = useStore();
  const state = useNotifier();
  return useMemo(
    () => ({
      ...inboxOf(state),
      read: async (/** @type {string | string[]} */ ids) => store?.read(ids),
      remove: async (/** @type {string} */ id) => store?.remove(id),
      older: async () => store?.older(),
    }),
    [store, state],
  );
}

/** A task in its newest state, or null while it is not known. Other tasks' changes render nothing. @param {string} id */
export const useTask = (id) => useSelected((state) => taskOf(state, id));

/**
 * @template T
 * @param {(state: StoreState) => T} select  equal values must be identical
 */
function useSelected(select) {
  const store = useStore();
  const subscribe = useMemo(
    () => (/** @type {() => void} */ changed) => store?.subscribe(changed) ?? (() => {}),
    [store],
  );
  return useSyncExternalStore(
    subscribe,
    () => select(store?.state ?? EMPTY),
    () => select(EMPTY),
  );
}
