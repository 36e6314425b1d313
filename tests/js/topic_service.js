/** A service whose streams hear topics, as a test scripts it, and grants. */

import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

import { connect } from "../../client/notifier.js";
import { collector, frame } from "./server.js";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A grant as the page has it; the client does not check signatures. */
export function grant(topics, { life = 300, n = 0, presence = false } = {}) {
  const iat = Math.floor(Date.now() / 1000);
  return `${part({})}.${part({ topics, iat, exp: iat + life, n, presence })}.x`;
}

/** `serveTopics` and a client of it, which is alone. */
export async function service(t, answer, people) {
  const { url, ...rest } = await serveTopics(t, answer, people);
  const notifier = connect(url, { token: "a" });
  t.after(() => notifier.close());
  return { notifier, ...rest };
}

/** A service with one stream at a time; `answer(body)` answers the changes of topics, `people(url)` who is on one. */
export async function serveTopics(t, answer, people = () => ({ count: 0, users: [] })) {
  const changes = collector();
  const streams = collector();
  const server = createServer(async (request, response) => {
    if (request.url.startsWith("/v1/topics/")) return response.end(JSON.stringify(people(request.url)));
    if (request.url.startsWith("/v1/inbox")) return response.end(JSON.stringify({ unread: 0, cursor: "e-5" }));
    if (request.url.startsWith("/v1/tasks")) return response.end(JSON.stringify({ tasks: [] }));
    if (request.method === "GET") {
      const connection = `c${streams.values.length + 1}`;
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      const hello = { v: 1, recovered: true, replayed: 0, unread: 0, tasks: [], heartbeat_s: 15, connection };
      response.write(frame("hello", hello, "e-5"));
      return streams.add(response);
    }
    let text = "";
    for await (const chunk of request) text += chunk;
    const body = JSON.parse(text);
    const { status = 200, isCut, delayMs = 0, ...answered } = answer(body, changes.values.length + 1);
    if (delayMs) await sleep(delayMs);
    response.writeHead(status, { "Content-Type": "application/json", ...(isCut && { "Content-Length": 500 }) });
    if (isCut) {
      changes.add(body);
      return response.write("{", () => response.destroy());
    }
    response.end(JSON.stringify({ topics: topicsOf(body), cursor: "e-7", stale: [], ...answered }));
    changes.add(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, changes, streams };
}

export const topicsOf = ({ add = [] }) =>
  add.flatMap((token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url")).topics);
