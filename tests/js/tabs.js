/** Tabs of one browser in Node, which has no Web Locks: those that an election needs, and the channel of topics. */

const queues = new Map(); // requests that wait, by name
const holders = new Map(); // of them, by name

const LATE_MS = 300; // a tab that hangs learns this late that its lock was stolen

/** One holder of a name, the others in their order; a thief takes it at once. */
const locks = {
  request(name, { signal, steal }, granted) {
    return new Promise((resolve, reject) => {
      const request = { granted, resolve, reject };
      const queue = queues.get(name) ?? [];
      queues.set(name, queue);
      signal?.addEventListener("abort", () => {
        const place = queue.indexOf(request);
        if (place < 0) return; // it has the lock
        queue.splice(place, 1);
        reject(signal.reason);
      });
      if (steal) {
        const { reject: replace } = holders.get(name);
        setTimeout(replace, LATE_MS, new DOMException("The lock was stolen", "AbortError"));
        holders.delete(name);
        queue.unshift(request);
      } else queue.push(request);
      grant(name);
    });
  },
};

function grant(name) {
  const next = holders.has(name) ? undefined : queues.get(name).shift();
  if (!next) return;
  holders.set(name, next);
  Promise.resolve()
    .then(next.granted)
    .then(next.resolve, next.reject)
    .finally(() => {
      if (holders.get(name) !== next) return; // it was stolen
      holders.delete(name);
      grant(name);
    });
}

/** Makes Node a browser whose tabs share. */
export function provideLocks() {
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
}

/** What a tab does that gets no answer from the one with the lock: it takes the lock. Here the next in the queue has it then. */
export function stealLocks() {
  for (const name of [...holders.keys()]) void locks.request(name, { steal: true }, () => {});
}

/** What a connection that shares does with the channel of topics. */
export function takePart(t, connection, key) {
  let channel = new BroadcastChannel(`${key} topics`);
  channel.onmessage = ({ data }) => connection.receive?.(data);
  connection.post = (message) => channel?.postMessage(message);
  t.after(() => {
    channel.close();
    channel = null;
  });
}
