/**
 * The client stays lean: what a page runs, within a budget. And nothing of it needs a package.
 *
 * Counted as pages ship it: bundled by esbuild, minified by terser (its plain settings, three passes), gzipped. What is
 * not counted: other languages than English, and django.js, which adds the DOM events to the whole.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { minify } from "terser";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MOST_BYTES = 6 * 1024;

const LATER = ["./topics.js", "./list.js", "./task_list.js", "./task_bar.js", "./actions.js", "./options/*"];

const gzip = (text) => gzipSync(text, { level: 9 }).length;

/** A module and all it imports. */
function withImports(folder, name, names = new Set()) {
  names.add(name);
  for (const [, next] of readFileSync(join(folder, name), "utf8").matchAll(/(?:from|import) "(.*?)"/g)) {
    assert.match(next, /^\.\.?\//, `${name} imports ${next}, which a browser cannot find`);
    if (!names.has(next.slice(2))) withImports(folder, next.slice(2), names);
  }
  return names;
}

/** The modules as a bundler would ship them with all they import. */
async function minified(names, loadedLater = []) {
  const all = names.map((name) => `export * from "./client/${name}";`).join("");
  const outside = loadedLater.map((name) => `--external:${name}`);
  const arguments_ = ["--bundle", "--format=esm", "--target=es2022", "--log-level=error", ...outside];
  const bundle = execFileSync(join(ROOT, "node_modules", ".bin", "esbuild"), arguments_, {
    cwd: ROOT,
    input: all,
    encoding: "utf8",
  });
  const { code } = await minify(bundle, { module: true, ecma: 2020, compress: { passes: 3 } });
  return code;
}

test("the client, minified and gzipped, is under 6 KiB", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "notifier-client-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const arguments_ = ["-p", "client", "--noEmit", "false", "--outDir", folder, "--removeComments"];
  execFileSync(join(ROOT, "node_modules", ".bin", "tsc"), arguments_, { cwd: ROOT });
  const names = withImports(folder, "notifier.js");
  const plain = gzip([...names].map((name) => readFileSync(join(folder, name), "utf8")).join(""));
  const bytes = gzip(await minified(["notifier.js"], LATER));
  t.diagnostic(`${[...names].join(" ")}: ${bytes} bytes; without comments, not minified: ${plain} bytes`);
  assert.ok(bytes < MOST_BYTES, `${bytes} bytes`);
});

test("the client with the store, minified and gzipped, is under 7.75 KiB", async (t) => {
  const bytes = gzip(await minified(["notifier.js", "store.js"], LATER));
  t.diagnostic(`notifier.js and store.js with all they import: ${bytes} bytes`);
  assert.ok(bytes < 7.75 * 1024, `${bytes} bytes`);
});

const WHOLE = ["notifier.js", "store.js", "widgets.js"];

test("the client with widgets and English texts, as a page loads it at its start, is under 16 KiB", async (t) => {
  const bytes = gzip(await minified(WHOLE, LATER));
  t.diagnostic(`notifier.js, store.js and widgets.js with all they import at once: ${bytes} bytes`);
  assert.ok(bytes < 16 * 1024, `${bytes} bytes`);
});

test("with messages, tasks, topics and every option, which a page loads when it needs them, it is under 26.5 KiB", async (t) => {
  const bytes = gzip(await minified(WHOLE));
  t.diagnostic(`the whole, with what is loaded later: ${bytes} bytes`);
  assert.ok(bytes < 26.5 * 1024, `${bytes} bytes`);
});

test("no file of the client names a host of its own", () => {
  const files = readdirSync(join(ROOT, "client"), { recursive: true }).filter((name) =>
    /\.(js|css|html|svg)$/.test(name),
  );
  for (const name of files) {
    const matches = readFileSync(join(ROOT, "client", name), "utf8").match(
      /\b(?:https?:)?\/\/(?!www\.w3\.org\/2000\/svg)[a-z]\S*\.\S+/g,
    );
    const links = (matches ?? []).filter((link) => !link.startsWith("// "));
    assert.deepEqual(links, [], name);
  }
});
