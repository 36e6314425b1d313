/**
 * Pages that show objects by the browser client: `node client_pages.js URL`. Pages of one user are tabs that share a stream.
 *
 * Each line that it reads is a command: `{"page", "token", "grants", "since", "shown"}` opens a page that shows these versions
 * by topic, `{"page", "topic", "version"}` is the answer to its fetch, `{"page", "asked", "grants"}` that to its renewal,
 * `{"page"}` closes it; `{}`: all try to connect now; `{"steal"}`: the stream of each user goes to the user's other tab; `{"report"}`: print what these pages did last.
 * Each line that it prints is a page's fetch of an object, `{"page", "topic"}`, what it shows: with `version`, or a renewal of
 * grants, `{"page", "asked", "topics"}`.
 */

import { createInterface } from "node:readline";

import { connect } from "../../client/notifier.js";
import { provideLocks, stealLocks } from "../js/tabs.js";

provideLocks();

const [url] = process.argv.slice(2);
const pages = new Map();
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const topicsOf = (grant) => JSON.parse(Buffer.from(grant.split(".")[1], "base64url")).topics;

/** As the recipes of docs/live.md: an object is fetched again after its event, or where it is stale. */
function open({ page, token, grants, since, shown }) {
  const fetching = new Map(); // by topic: whether the object changed while it was fetched
  const renewals = [];
  const last = []; // what happened last
  const note = (text) => last.push(`${Math.round(performance.now())} ${text}`) > 30 && last.shift();
  const notifier = connect(url, { token, fetch: traced(note) });
  const fetchObject = (topic) => {
    const isFirst = !fetching.has(topic);
    fetching.set(topic, !isFirst);
    if (isFirst) print({ page, topic });
  };
  const answered = ({ topic, version }) => {
    shown[topic] = version;
    print({ page, topic, version });
    const isOld = fetching.get(topic);
    fetching.delete(topic);
    if (isOld) fetchObject(topic);
  };
  const onStale = (names) => names.forEach(fetchObject);
  const onEnded = (names, reason) => note(`ended ${names} ${reason}`);
  const renew = (old) =>
    new Promise((resolve) => {
      print({ page, asked: renewals.push(resolve) - 1, topics: old.flatMap(topicsOf) });
    });
  const renewed = ({ asked, grants }) => renewals[asked]({ grants });
  for (const type of ["hello", "reset", "topics", "bye", "changed"])
    notifier.on(type, (data, { id }) => note(`${type} ${id} ${data.connection ?? data.topic ?? data.reason ?? data.left}`));
  notifier.on("connectionState", ({ state, reason }) => note(`${state} ${reason}`));
  notifier
    .topic(grants, { since, onStale, onEnded, renew })
    .then((handle) => handle.on("changed", ({ topic }) => fetchObject(topic)));
  pages.set(page, { notifier, answered, renewed, last });
}

/** A `fetch` that notes its calls. */
function traced(note) {
  return async (target, init) => {
    const { connection, add, since } = JSON.parse(init.body ?? "{}");
    const call = `${target.pathname} ${connection ?? ""} ${add?.flatMap(topicsOf) ?? ""} ${since ?? ""}`;
    try {
      const response = await fetch(target, init);
      const answer = connection && (await response.clone().text());
      note(`${call}: ${response.status} ${answer ?? ""}`);
      return response;
    } catch (error) {
      note(`${call}: ${error.cause ?? error}`);
      throw error;
    }
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const known = pages.get(command.page);
  if (command.token) open(command);
  else if (command.topic) known?.answered(command);
  else if (command.grants) known?.renewed(command);
  else if (command.steal) stealLocks();
  else if (command.report) for (const page of command.report) print({ page, report: pages.get(page)?.last });
  else if (known) {
    known.notifier.close();
    pages.delete(command.page);
  } else for (const { notifier } of pages.values()) notifier.retry();
}
process.exit(0);
