/** The user's own calls: what they ask of the service, and how its refusals come out. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, ServiceError } from "../../client/notifier.js";
import { serve } from "./server.js";

/** A service that keeps its stream open, notes every other call with its body, and answers from `answers` in turn. */
async function service(t, answers, options = {}) {
  const calls = [];
  const server = await serve(t, (request, response) => {
    if (request.url.endsWith("/v1/stream")) return;
    const { method, url, headers } = request;
    let body = "";
    request.on("data", (piece) => (body += piece));
    request.on("end", () => {
      calls.push({ method, url, body: body && JSON.parse(body), authorization: headers.authorization });
      const [status, answer, type = "application/json"] = answers.shift();
      response
        .writeHead(status, { "Content-Type": type })
        .end(answer === undefined ? undefined : typeof answer === "string" ? answer : JSON.stringify(answer));
    });
  });
  const notifier = connect(`${server.url}/base`, { token: "a-token", ...options });
  t.after(() => notifier.close());
  return { notifier, calls };
}

test("each call asks for what its name says", async (t) => {
  const { notifier, calls } = await service(
    t,
    Array.from({ length: 10 }, () => [200, { unread: 3, tasks: [{ id: "t" }] }]),
  );
  await notifier.inbox();
  await notifier.inbox({ limit: 25, before: "m 1", unread: true });
  await notifier.markRead(["m1", "m2"]);
  await notifier.markRead("m1");
  await notifier.markRead("all");
  await notifier.deleteMessage("a/b");
  assert.equal(await notifier.unread(), 3);
  assert.deepEqual(await notifier.tasks(), [{ id: "t" }]);
  await notifier.cancelTask("t1");
  await notifier.dismissTask("t1");
  assert.deepEqual(
    calls.map(({ method, url, body }) => [method, url.replace("/base/v1/", ""), body]),
    [
      ["GET", "inbox", ""],
      ["GET", "inbox?limit=25&before=m+1&unread=1", ""],
      ["POST", "inbox/read", { ids: ["m1", "m2"] }],
      ["POST", "inbox/read", { ids: ["m1"] }],
      ["POST", "inbox/read", { all: true }],
      ["DELETE", "inbox/a%2Fb", ""],
      ["GET", "inbox/unread", ""],
      ["GET", "tasks", ""],
      ["POST", "tasks/t1/cancel", ""],
      ["DELETE", "tasks/t1", ""],
    ],
  );
  assert.ok(calls.every(({ authorization }) => authorization === "Bearer a-token"));
});

test("a 401 is repeated once with a new token", async (t) => {
  const { notifier, calls } = await service(
    t,
    [
      [401, {}],
      [200, { unread: 1 }],
    ],
    { token: "old", getToken: () => "new" },
  );
  assert.equal(await notifier.unread(), 1);
  assert.deepEqual(
    calls.map(({ authorization }) => authorization),
    ["Bearer old", "Bearer new"],
  );
});

test("a refusal comes out with its status, its field and the service's words", async (t) => {
  const problem = { title: "Conflict", detail: "the task t1 ended as succeeded", field: "status" };
  const { notifier } = await service(t, [[409, problem, "application/problem+json"]]);
  await assert.rejects(notifier.cancelTask("t1"), (error) => {
    assert.ok(error instanceof ServiceError);
    assert.deepEqual([error.status, error.field, error.message], [409, "status", problem.detail]);
    return true;
  });
});

test("a refusal without words is told by its status, and a 401 for good is one", async (t) => {
  const { notifier } = await service(t, [
    [502, "<h1>Bad gateway</h1>", "text/html"],
    [401, {}],
  ]);
  await assert.rejects(notifier.unread(), /answered 502/);
  await assert.rejects(notifier.unread(), /answered 401/);
});

test("an answer without a body is null", async (t) => {
  const { notifier } = await service(t, [[204]]);
  assert.equal(await notifier.deleteMessage("m1"), null);
});
