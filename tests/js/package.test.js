/** What `npm pack` makes: it installs into an empty folder, runs in Node, and `tsc` knows its types. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
let folder = "";
let packed = { filename: "", files: [] };

const run = (command, ...args) =>
  execFileSync(command, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

before(() => {
  folder = mkdtempSync(join(tmpdir(), "notifier-pack-"));
  const told = execFileSync("npm", ["pack", "--json", "--pack-destination", folder], {
    cwd: ROOT,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const listing = JSON.parse(told.slice(told.search(/^[[{]/m)));
  packed = Array.isArray(listing) ? listing[0] : (Object.values(listing)[0] ?? listing);
  writeFileSync(join(folder, "package.json"), '{"private": true, "type": "module"}');
  run("npm", "install", "--offline", "--no-audit", "--no-fund", "--no-package-lock", join(folder, packed.filename));
});
after(() => {
  rmSync(folder, { recursive: true });
  rmSync(join(ROOT, "types"), { recursive: true, force: true });
});

test("the package holds the client, its types, a readme and the licence, and nothing else", () => {
  const names = packed.files.map(({ path }) => path);
  for (const wanted of [
    "client/notifier.js",
    "types/notifier.d.ts",
    "types/widgets/bell.d.ts",
    "client/icons/cart.svg",
    "README.md",
    "LICENSE",
  ]) {
    assert.ok(names.includes(wanted), wanted);
  }
  const others = names.filter((name) => !/^(client|types)\/.*\.(js|d\.ts)$|^client\/icons\/\w+\.svg$/.test(name));
  assert.deepEqual(others.sort(), ["LICENSE", "README.md", "docs/client.md", "package.json"]);
  assert.deepEqual(
    names.filter((name) => name.includes("demo")),
    [],
  );
  const { dependencies, license, exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  assert.equal(dependencies, undefined);
  assert.equal(license, "MIT");
  for (const target of Object.values(exports)) {
    for (const path of typeof target === "string" ? [] : Object.values(target)) {
      assert.ok(path.includes("*") || names.includes(path.slice(2)), path);
    }
  }
});

test("Node imports it by its names", () => {
  const code = `
    const { connect, ServiceError } = await import("sse-notifier-client");
    const { createStore } = await import("sse-notifier-client/store");
    const { default: ru } = await import("sse-notifier-client/i18n/ru");
    const notifier = connect("http://127.0.0.1:1/", { token: "x" });
    console.log(typeof ServiceError, createStore(notifier).state.unread, ru.lang);
    notifier.close();`;
  assert.equal(run(process.execPath, "--input-type=module", "--eval", code), "function 0 ru\n");
});

test("a server imports every module of it", () => {
  const modules = packed.files.map(({ path }) => path).filter((path) => path.endsWith(".js"));
  assert.ok(modules.length > 30);
  const code = `
    const failures = [];
    for (const name of ${JSON.stringify(modules)}) await import(\`./node_modules/sse-notifier-client/\${name}\`).catch((error) => failures.push(\`\${name}: \${error.message}\`));
    console.log(JSON.stringify(failures));`;
  assert.equal(run(process.execPath, "--input-type=module", "--eval", code), "[]\n");
});

test("tsc knows its types, and refuses what they forbid", () => {
  const check = (name, code) => {
    writeFileSync(join(folder, `${name}.ts`), code);
    const args = [
      "--noEmit",
      "--strict",
      "--target",
      "es2022",
      "--module",
      "nodenext",
      "--lib",
      "es2022,dom,dom.iterable",
    ];
    run(join(ROOT, "node_modules", ".bin", "tsc"), ...args, `${name}.ts`);
  };
  mkdirSync(join(folder, "src"), { recursive: true });
  const good = `
    import { connect } from "sse-notifier-client";
    import { createStore } from "sse-notifier-client/store";
    import { showWidgets, NotifierBell } from "sse-notifier-client/widgets";
    import ru from "sse-notifier-client/i18n/ru";
    import type { Message, StoreState } from "sse-notifier-client/types";
    const notifier = connect("/", { getToken: async () => ({ token: "x", expires_in: 60 }) });
    const store = createStore(notifier, { pageSize: 5 });
    store.subscribe(({ messages, unread }: StoreState) => { const first: Message | undefined = messages[0]; const n: number = unread; void first, n; });
    showWidgets(store, { texts: ru });
    export const bell: HTMLElement = new NotifierBell();`;
  check("good", good);
  assert.throws(
    () => check("bad", good.replace("pageSize: 5", 'pageSize: "5"')),
    ({ stdout }) => /TS2322/.test(stdout),
  );
});
