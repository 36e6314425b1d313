/**
 * Listens with npm's `eventsource` and prints every event as a line of JSON: a reader that is not ours.
 * NOTIFIER_URL and NOTIFIER_TOKEN say where and who; the Python tests start it and end it.
 */

import { EventSource } from "eventsource";

const { NOTIFIER_URL, NOTIFIER_TOKEN } = process.env;
const source = new EventSource(`${NOTIFIER_URL}/v1/stream`, {
  fetch: (url, init) =>
    fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${NOTIFIER_TOKEN}` } }),
});

for (const type of ["hello", "message", "task", "inbox", "reset", "ping", "bye", "order.paid"]) {
  source.addEventListener(type, ({ data, lastEventId }) =>
    print({ event: type, data: JSON.parse(data), id: lastEventId }),
  );
}
source.addEventListener("error", ({ code, message }) => print({ event: "error", data: { code, message }, id: "" }));

function print(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}
