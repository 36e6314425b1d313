/** Two whole clients of one browser, of which the one that has the stream shows no topic. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect } from "../../client/notifier.js";
import { collector } from "./server.js";
import { grant, serveTopics } from "./topic_service.js";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const TOKEN = `${part({})}.${part({ sub: "7" })}.x`;

/** Web Locks as far as an election needs them: one holder, the others in their order. */
const turns = new Map();
const locks = {
  async request(key, { signal }, granted) {
    const before = turns.get(key);
    const turn = Promise.resolve(before).then(() => {
      signal.throwIfAborted();
      return granted();
    });
    turns.set(
      key,
      turn.catch(() => {}),
    );
    return turn;
  },
};
Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });

test("a leader that shows no topic answers a tab that opens one", { timeout: 20_000 }, async (t) => {
  const { url, changes, streams } = await serveTopics(t, () => ({ stale: ["order:1"] }));
  const tabs = [];
  for (const hello of [collector(), collector()]) {
    const tab = connect(url, { token: TOKEN });
    t.after(() => tab.close());
    tabs.push(tab);
    tab.on("hello", hello.add);
    await hello.reached(1);
  }
  const stale = collector();
  const token = grant(["order:1"]);
  await tabs[1].topic(token, { since: "e-1", onStale: stale.add });
  assert.deepEqual(await changes.reached(1), [{ connection: "c1", add: [token], since: "e-1" }]);
  assert.deepEqual(await stale.reached(1), [["order:1"]]);
  assert.equal(streams.values.length, 1);
});
