/**
 * Devices that follow the output of one task with the browser client: `node output_readers.js URL TOKEN TASK COUNT`.
 *
 * Each line that it reads is a command: `reload N` (the page of device N begins anew), `retry` (all try to connect now).
 * Each line that it prints is a change of a device's text: `{"device", "clear"}` or `{"device", "text", "truncated"}`;
 * `{"device", "opened"}`: its stream is open.
 */

import { createInterface } from "node:readline";

import { connect } from "../../client/notifier.js";
import { createStore } from "../../client/store.js";
import { createPieces } from "../../client/widgets/pieces.js";

const [url, token, task, count] = process.argv.slice(2);

/** As `<notifier-output>` uses the client. */
function open(device) {
  const print = (change) => process.stdout.write(`${JSON.stringify({ device, ...change })}\n`);
  const notifier = connect(url, { token, shared: false });
  const store = createStore(notifier);
  const pieces = createPieces(
    (after) => notifier.output(task, after),
    (text, truncated) => print({ text, truncated }),
    () => print({ clear: true }),
  );
  print({ clear: true });
  for (const name of ["hello", "reset"]) notifier.on(name, () => print({ opened: true }));
  notifier.on("task.output", (piece) => piece.id === task && pieces.receive(piece));
  store.subscribe(({ tasks }) => {
    const known = tasks.find(({ id }) => id === task);
    if (known?.output) pieces.expect(known.output.n);
  });
  return {
    retry: notifier.retry,
    close() {
      pieces.close();
      store.close();
      notifier.close();
    },
  };
}

const devices = Array.from({ length: Number(count) }, (_, device) => open(device));
for await (const line of createInterface({ input: process.stdin })) {
  const [command, device] = line.split(" ");
  if (command === "retry") for (const { retry } of devices) retry();
  else {
    devices[device].close();
    devices[device] = open(Number(device));
  }
}
process.exit(0);
