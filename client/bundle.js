/** Everything but the texts of other languages in one module: the entry of the npm package's bundle. */

export { connect, ServiceError } from "./notifier.js";
export { createStore } from "./store.js";
export * from "./widgets.js";
