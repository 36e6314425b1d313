/**
 * Vue (3.3 and newer): the store in components.
 *
 *     createApp(App).use(notifierPlugin, import.meta.env.SSR ? null : createStore(connect("/", { getToken })))
 *
 * Without a store, as on a server, the composables have the empty state. Must not know: what a component shows.
 */

import { computed, inject, onScopeDispose, shallowRef, toValue } from "vue";
import { EMPTY, inboxOf, taskOf } from "../empty.js";

/** @import { App, InjectionKey, MaybeRefOrGetter, ShallowRef } from "vue" */
/** @typedef {ReturnType<typeof import("../store.js").createStore>} Store */
/** @typedef {import("../types.js").StoreState} StoreState */
/** @typedef {typeof import("../jsx/vue.d.ts")} Elements  the elements in templates */

/** @type {InjectionKey<Store | null>} */
const KEY = Symbol("notifier");

/** Gives the store to all components of an app. null: there is none. */
export const notifierPlugin = {
  /**
   * @param {App} app
   * @param {Store | null} store
   */
  install: (app, store) => void app.provide(KEY, store),
};

/** The store, for its calls; null without one. */
export const useStore = () => inject(KEY, null);

/** What the user has; see `store.state`. Ends with the component. @returns {Readonly<ShallowRef<StoreState>>} */
export function useNotifier() {
  const state = shallowRef(/** @type {StoreState} */ (EMPTY));
  const end = useStore()?.subscribe((next) => {
    state.value = next;
  });
  if (end) onScopeDispose(end);
  return state;
}

/** The messages as one computed value, and what a user does with them. A call without a store does nothing. */
export function useInbox() {
  const store = useStore();
  const state = useNotifier();
  return {
    inbox: computed(() => inboxOf(state.value)),
    read: async (/** @type {string | string[]} */ ids) => store?.read(ids),
    remove: async (/** @type {string} */ id) => store?.remove(id),
    older: async () => store?.older(),
  };
}

/** A task in its newest state, or null while it is not known. @param {MaybeRefOrGetter<string>} id */
export function useTask(id) {
  const state = useNotifier();
  return computed(() => taskOf(state.value, toValue(id)));
}
