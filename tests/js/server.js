/** A real HTTP server whose answers a test scripts, and waiting for what happens. */

import { EventEmitter, once } from "node:events";
import { createServer } from "node:http";

/**
 * A server on 127.0.0.1. `answers` are called one per request, the last one again and again: `(request, response)`.
 * `requests` lists what came; `nthRequest(n)` waits for the n-th (from 1).
 */
export async function serve(t, ...answers) {
  const requests = [];
  const news = new EventEmitter();
  const server = createServer((request, response) => {
    const answer = answers[Math.min(requests.length, answers.length - 1)];
    requests.push({ url: request.url, method: request.method, headers: request.headers, at: Date.now(), response });
    news.emit("request");
    answer(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    requests,
    async nthRequest(n) {
      while (requests.length < n) await once(news, "request", { signal: AbortSignal.timeout(60_000) });
      return requests[n - 1];
    },
  };
}

/** Opens a stream with `hello` and then `frames`; `end` ends it. */
export function stream(frames = "", { end = false, heartbeat_s = 15, id = "e-0" } = {}) {
  return (_request, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
    response.write(frame("hello", { v: 1, recovered: true, replayed: 0, unread: 0, tasks: [], heartbeat_s }, id));
    response.write(frames);
    if (end) response.end();
  };
}

export function frame(event, data, id) {
  return `${id ? `id: ${id}\n` : ""}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

export function status(code, body = "", headers = {}) {
  return (_request, response) => {
    response.writeHead(code, { "Content-Type": "application/problem+json", ...headers });
    response.end(body);
  };
}

/** Cuts the connection without an answer. */
export function cut(_request, response) {
  response.destroy();
}

/** Collects values; `reached(n)` waits until there are n of them. */
export function collector() {
  const values = [];
  const news = new EventEmitter();
  const add = (...args) => {
    values.push(args.length > 1 ? args : args[0]);
    news.emit("value");
  };
  const reached = async (n) => {
    while (values.length < n) await once(news, "value", { signal: AbortSignal.timeout(60_000) });
    return values;
  };
  return { values, add, reached };
}
