/**
 * The client stays lean: what a page runs, within a budget. And nothing of it needs a package.
 *
 * Counted are the parts of the npm package's bundle (`tools/bundle.js`) that a page loads at its start, gzipped;
 * `package.test.js` counts the whole.
 * What is not counted: other languages than English, the elements that have a module of their own (output, live parts,
 * presence), and django.js, which adds the DOM events to the whole.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { bundle, INTERNAL } from "../../tools/bundle.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MOST_BYTES = 6 * 1024;

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

/** The bytes of these modules with all they import, without what is loaded when it is needed. */
async function bytesOf(names) {
  const { code } = await bundle(
    names.map((name) => join(ROOT, "client", name)),
    { atStart: true },
  );
  return gzip(code);
}

test("the client, minified and gzipped, is under 6 KiB", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "notifier-client-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const arguments_ = ["-p", "client", "--noEmit", "false", "--noCheck", "--outDir", folder, "--removeComments"];
  execFileSync(join(ROOT, "node_modules", ".bin", "tsc"), arguments_, { cwd: ROOT });
  const names = withImports(folder, "notifier.js");
  const plain = gzip([...names].map((name) => readFileSync(join(folder, name), "utf8")).join(""));
  const bytes = await bytesOf(["notifier.js"]);
  t.diagnostic(`${[...names].join(" ")}: ${bytes} bytes; without comments, not minified: ${plain} bytes`);
  assert.ok(bytes < MOST_BYTES, `${bytes} bytes`);
});

test("the client with the store, minified and gzipped, is under 7.8 KiB", async (t) => {
  const bytes = await bytesOf(["notifier.js", "store.js"]);
  t.diagnostic(`notifier.js and store.js with all they import: ${bytes} bytes`);
  assert.ok(bytes < 7.8 * 1024, `${bytes} bytes`);
});

test("the client with widgets and English texts, as a page loads it at its start, is under 15.5 KiB", async (t) => {
  const bytes = await bytesOf(["bundle.js"]);
  t.diagnostic(`notifier.js, store.js and widgets.js with all they import at once: ${bytes} bytes`);
  assert.ok(bytes < 15.5 * 1024, `${bytes} bytes`);
});

test("a property that the bundle shortens is in no string, no type of a page and no document", () => {
  const read = (folder, kind) =>
    readdirSync(join(ROOT, folder), { recursive: true })
      .filter((name) => kind.test(name))
      .map((name) => readFileSync(join(ROOT, folder, name), "utf8"));
  const code = read("client", /\.js$/)
    .join("\n")
    .replace(/\/\*\*[\s\S]*?\*\//g, "");
  const guides = read("docs", /^(client|live|protocol|frameworks)\.md$/);
  const documents = [...guides, ...read("client", /^types\.js$|\.d\.ts$/)].join("\n");
  const wire = read("notifier/schemas", /\.json$/).join("\n");
  for (const name of INTERNAL) {
    assert.ok(new RegExp(`\\b${name}\\b`).test(code), `${name} is not used`);
    assert.ok(!new RegExp(`["'\`]${name}["'\`]`).test(code), `${name} is a string`);
    assert.ok(!new RegExp(`[.\`{] ?${name}\\b`).test(documents), `${name} is public`);
    assert.ok(!wire.includes(`"${name}"`), `${name} is on the wire`);
  }
});

test("an import whose module is known only at run time stays as it is in a bundle", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "notifier-bundle-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "later.js");
  writeFileSync(path, "export const load = (name) => import(name);");
  const { code } = await bundle([path]);
  assert.match(code, /\bimport\(\w+\)/);
  assert.doesNotMatch(code, /undefined/);
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
