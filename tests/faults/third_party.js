/**
 * Listens with a client that others wrote, and prints each message and each reset as a line of JSON.
 * `node third_party.js CLIENT`; NOTIFIER_URL and NOTIFIER_TOKEN say where and who.
 */

const { NOTIFIER_URL, NOTIFIER_TOKEN } = process.env;
const url = `${NOTIFIER_URL}/v1/stream`;
const headers = { Authorization: `Bearer ${NOTIFIER_TOKEN}` };
const EVENTS = ["hello", "message", "reset"];

const CLIENTS = {
  async eventsource() {
    const { EventSource } = await import("eventsource");
    hear(new EventSource(url, { fetch: (to, init) => fetch(to, { ...init, headers: { ...init.headers, ...headers } }) }));
  },

  // It takes no headers, and its timers do not keep the process.
  async undici() {
    const { EventSource } = await import("undici");
    hear(new EventSource(`${url}?token=${NOTIFIER_TOKEN}`));
    setInterval(() => {}, 60_000);
  },

  async "eventsource-client"() {
    const { createEventSource } = await import("eventsource-client");
    createEventSource({ url, headers, onMessage: ({ id, event, data }) => print(event, data, id) });
  },

  // Written for pages: it looks at the window and at the document. It takes a clean end for the last.
  async "fetch-event-source"() {
    globalThis.window = globalThis;
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    const { fetchEventSource } = await import("@microsoft/fetch-event-source");
    await fetchEventSource(url, {
      headers: { ...headers },
      openWhenHidden: true,
      onmessage: ({ id, event, data }) => print(event, data, id),
      onclose() {
        throw new Error("open it again");
      },
      onerror: () => 500,
    });
  },
};

function hear(source) {
  for (const event of EVENTS) {
    source.addEventListener(event, ({ data, lastEventId }) => print(event, data, lastEventId));
  }
}

function print(event, data, id) {
  if (EVENTS.includes(event)) process.stdout.write(`${JSON.stringify({ event, id, data: JSON.parse(data) })}\n`);
}

await CLIENTS[process.argv[2]]();
