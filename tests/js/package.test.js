/** What `npm pack` makes: it installs into an empty folder, runs in Node, stays small, and `tsc` knows its types. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { bundle } from "../../tools/bundle.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
let folder = "";
let packed = { filename: "", files: [] };

/** The packages that a project has beside it, by the folders that these need of the repository's. */
const PEERS = {
  react: ["react", "@types/react", "csstype"],
  vue: ["vue", "@vue"],
  svelte: ["svelte"],
  preact: ["preact"],
  "solid-js": ["solid-js", "csstype"],
};

function provide(name) {
  for (const needed of PEERS[name]) {
    const target = join(folder, "node_modules", needed);
    if (existsSync(target)) continue;
    mkdirSync(dirname(target), { recursive: true });
    symlinkSync(join(ROOT, "node_modules", needed), target);
  }
}

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
    "client/themes/warm.css",
    "README.md",
    "LICENSE",
  ]) {
    assert.ok(names.includes(wanted), wanted);
  }
  const known =
    /^(client|types)\/.*\.(js|d\.ts)$|^(client|dist)\/icons\/\w+\.svg$|^client\/themes\/\w+\.css$|^dist\/js\/notifier\.js(\.map)?$/;
  const others = names.filter((name) => !known.test(name));
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
  for (const name of Object.keys(PEERS)) provide(name);
  const code = `
    const failures = [];
    for (const name of ${JSON.stringify(modules)}) {
      await import(\`./node_modules/sse-notifier-client/\${name}\`).catch((error) => failures.push(\`\${name}: \${error.message}\`));
    }
    console.log(JSON.stringify(failures));`;
  assert.equal(run(process.execPath, "--input-type=module", "--eval", code), "[]\n");
});

test("the bundle has what the entries have", () => {
  const code = `
    const [bundle, ...entries] = await Promise.all(["/bundle", "", "/store", "/widgets"].map((name) => import("sse-notifier-client" + name)));
    const names = entries.flatMap((entry) => Object.keys(entry)).sort();
    console.log(JSON.stringify([Object.keys(bundle).sort(), names]));`;
  const [bundled, names] = JSON.parse(run(process.execPath, "--input-type=module", "--eval", code));
  assert.ok(names.includes("connect") && names.includes("createStore") && names.includes("showWidgets"));
  assert.deepEqual(bundled, names);
});

test("the whole, with messages, tasks, topics and every option, is under 26.8 KiB", (t) => {
  const code = readFileSync(join(folder, "node_modules", "sse-notifier-client", "dist", "js", "notifier.js"));
  const bytes = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`the bundle, with what a page loads later: ${bytes} bytes`);
  assert.ok(bytes < 26.8 * 1024, `${bytes} bytes`);
});

test("all of the client, with output, live parts and presence, is under 32.4 KiB", async (t) => {
  const names = ["bundle.js", "live.js", "widgets/live.js", "widgets/output.js", "widgets/presence.js"];
  const { code } = await bundle(names.map((name) => join(ROOT, "client", name)));
  const bytes = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`the bundle and the elements that have modules of their own: ${bytes} bytes`);
  assert.ok(bytes < 32.4 * 1024, `${bytes} bytes`);
});

// Types: `tsc` checks the modules of several tests at once, as it takes seconds to start.

const plain = { modules: {}, options: [] };
const jsx = { modules: {}, options: ["--jsx", "react-jsx"] };
const frameworks = { modules: {}, options: ["--skipLibCheck"] };

/** The codes of the errors of each module of a group. */
function errors(group) {
  if (group.errors) return group.errors;
  for (const name of Object.keys(PEERS)) provide(name);
  const names = Object.keys(group.modules);
  for (const name of names) writeFileSync(join(folder, name), group.modules[name]);
  const target = ["--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable"];
  const less = ["--singleThreaded", "--skipDefaultLibCheck"];
  const options = ["--noEmit", "--strict", "--pretty", "false", ...target, ...less, ...group.options];
  const tsc = join(ROOT, "node_modules", ".bin", "tsc");
  const { stdout } = spawnSync(tsc, [...options, ...names], { cwd: folder, encoding: "utf8" });
  group.errors = Object.fromEntries(names.map((name) => [name, ""]));
  for (const [line, name, code] of stdout.matchAll(/^(\S.*?)(?:\(.*?\))?: error (TS\d+).*$/gm)) {
    assert.ok(name in group.errors, line);
    group.errors[name] += `${code} `;
  }
  return group.errors;
}

/** A test that `tsc` accepts a module, and refuses it with `valid` replaced by `invalid`. */
function accepts(title, group, name, code, valid, invalid) {
  const bad = name.replace(".", "-bad.");
  assert.ok(code.includes(valid), valid);
  group.modules[name] = code;
  group.modules[bad] = code.replace(valid, invalid);
  test(title, () => {
    assert.equal(errors(group)[name], "");
    assert.match(errors(group)[bad], /^(TS2322 |TS2353 )+$/);
  });
}

accepts(
  "tsc knows its types, and refuses what they forbid",
  plain,
  "plain.ts",
  `
    import { connect } from "sse-notifier-client";
    import { createStore } from "sse-notifier-client/store";
    import { showWidgets, NotifierBell } from "sse-notifier-client/widgets";
    import ru from "sse-notifier-client/i18n/ru";
    import type { Message, StoreState } from "sse-notifier-client/types";
    const notifier = connect("/", { getToken: async () => ({ token: "x", expires_in: 60 }) });
    const store = createStore(notifier, { pageSize: 5 });
    store.subscribe(({ messages, unread }: StoreState) => { const first: Message | undefined = messages[0]; const n: number = unread; void first, n; });
    showWidgets(store, { texts: ru });
    export const bell: HTMLElement = new NotifierBell();
    export const other: NotifierBell | null = document.querySelector("notifier-bell");
    export const toasts = document.createElement("notifier-toasts").show("info", "Saved");`,
  "pageSize: 5",
  'pageSize: "5"',
);

const ELEMENTS = `
  export const all = <><notifier-bell class="x" /><notifier-inbox id="x" /><notifier-tasks hidden /><notifier-toasts native />
    <notifier-progress task="7" /><notifier-message level="info">Saved</notifier-message></>;`;

/** The beginning of a module whose JSX is that of a framework: `source` is its package. */
const jsxOf = (name, source = name) =>
  `/** @jsxImportSource ${source} */\nimport type {} from "sse-notifier-client/jsx/${name}";`;

for (const [name, source] of [
  ["react", "react"],
  ["preact", "preact"],
  ["solid", "solid-js"],
]) {
  const code = jsxOf(name, source) + (name === "react" ? ELEMENTS.replace("class=", "className=") : ELEMENTS);
  accepts(`the elements are known in the JSX of ${name}`, jsx, `${name}.tsx`, code, 'task="7"', "task={7}");
}

const guide = readFileSync(join(ROOT, "docs", "client.md"), "utf8");
const tags = [...guide.matchAll(/<notifier-[^>]*>/g)].map(([tag]) => tag.replace(/\/?>$/, " />"));
assert.ok(tags.length > 5);
accepts(
  "every element and attribute of the guide is known",
  jsx,
  "guide.tsx",
  `${jsxOf("preact")} export const all = [${tags.join(", ")}];`,
  "<notifier-bell",
  "<notifier-bell unknown",
);

accepts(
  "Vue's templates know the elements",
  frameworks,
  "vue.ts",
  `
    import type { GlobalComponents } from "vue";
    import type {} from "sse-notifier-client/jsx/vue";
    type Props<Name extends keyof GlobalComponents> = GlobalComponents[Name] extends new () => { $props: infer P } ? P : never;
    export const progress: Props<"NotifierProgress"> = { task: "7", class: "x" };
    export const bell: Props<"NotifierBell"> = { id: "x" };
    export const toasts: Props<"NotifierToasts"> = { native: true };`,
  'task: "7"',
  "task: 7",
);

accepts(
  "the hooks have types",
  frameworks,
  "hooks.ts",
  `
    import { useInbox, useNotifier, useTask } from "sse-notifier-client/react";
    import * as vue from "sse-notifier-client/vue";
    import { inboxStore, taskStore } from "sse-notifier-client/svelte";
    import { get } from "svelte/store";
    export const counts: number[] = [useNotifier().unread, useInbox().unread, vue.useNotifier().value.unread, vue.useInbox().inbox.value.unread, get(inboxStore(null)).unread];
    export const names: (string | undefined)[] = [useTask("1")?.name, vue.useTask("1").value?.name, get(taskStore(null, "1"))?.name];`,
  "number[]",
  "string[]",
);
