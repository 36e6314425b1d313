/** The client under test, connected to a scripted server. */

import { connect } from "../../client/notifier.js";
import { collector, frame } from "./server.js";

/** A connection that ends with its test and, unless told otherwise, waits for nothing between attempts. */
export function open(t, url, options = {}, { random = 0 } = {}) {
  t.mock.method(Math, "random", () => random);
  const states = collector();
  const notifier = connect(url, {
    token: "a-token",
    ...options,
    onState: (state, { reason, final }) => states.add(`${state} ${reason}${final ? " final" : ""}`),
  });
  t.after(() => notifier.close());
  return { notifier, states };
}

export const message = (id, data = {}) =>
  frame("message", { id: `m${id}`, subject: `Number ${id}`, ...data }, `e-${id}`);
