/**
 * Modules of the client as one minified module: the npm package has it, `tests/js/size.test.js` and `package.test.js` count it.
 *
 * Rolldown joins the modules and drops unused code, esbuild minifies the style sheets in them, terser the rest. Names that only the client's own
 * modules know become shorter: those of `INTERNAL`, and custom properties with an underscore.
 */

import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { transformSync } from "esbuild";
import MagicString from "magic-string";
import { rolldown } from "rolldown";
import { minify } from "terser";

/** Properties that no page, text, event or other tab names; `tests/js/size.test.js` checks that. */
export const INTERNAL = [
  ...["actionsOf", "createTopics", "questionOf", "QUESTION_CSS", "showBar", "showList", "showPeople", "showTasks"],
  ...["adopt", "attempt", "depart", "ends", "extend", "isAtEnd", "report"],
  ...["afterMs", "asking", "feed", "isRunning", "isSignedOut", "leads", "listen", "mayEnd", "onHurry", "onStart", "tryStream"],
  ...["endUnneeded", "grantsOf", "handles", "heard", "hearPolled", "isChanged", "isMissing", "isRefused", "namesOf"],
  ...["refuseToken", "refuseTokens", "setAside", "shownBy", "shownOn", "tellPolls", "tellStates", "withoutRoom"],
];

/** The widgets' own custom properties: each becomes one letter. */
const VARIABLES = "accent error from gap level line muted radius shadow success surface text warning".split(" ");

/** @param {string} all  as `--_accent` @param {string} name */
function shortened(all, name) {
  const index = VARIABLES.indexOf(name);
  return index < 0 ? all : `--_${String.fromCharCode(97 + index)}`;
}

/** A style sheet in a module: a constant or a static field whose name ends in `css`; other sheets are at its start. */
const SHEETS = /(css = `(?:\$\{\w+_CSS\})*)([^`]*)(?=`;)/gi;

/** @param {string} css  may have constants of its module as conditions of `@media` */
function minifiedSheet(css) {
  const plain = css.replace(/\$\{([A-Z]+)\}/g, "(--$1)"); // a named condition (Media Queries 5, @custom-media)
  const { code, warnings } = transformSync(plain, { loader: "css", minify: true, charset: "utf8" });
  if (warnings.length) throw new Error(warnings.map(({ text }) => text).join("\n"));
  return code.trim().replace(/\(--([A-Z]+)\)/g, "$${$1}").replace(/--_([a-z]+)/g, shortened);
}

/** @type {import("rolldown").Plugin} */
const sheets = {
  name: "sheets",
  transform(code, id) {
    const next = new MagicString(code);
    next.replace(SHEETS, (_, start, css) => start + minifiedSheet(css));
    return next.hasChanged() ? { code: next.toString(), map: next.generateMap({ source: id, hires: true }) } : null;
  },
};

/**
 * Modules that are imported when they are needed: in one file they are there from the start. As imports of a kind that rolldown has to
 * run later, each would be a function, and its constants variables; as a namespace, each would be an object of getters. So the
 * import becomes an object of the module's exports, made when it is asked for.
 *
 * @type {import("rolldown").Plugin}
 */
const withLater = {
  name: "later",
  async transform(code, id) {
    /** @type {any[]} */
    const imports = [];
    JSON.stringify(this.parse(code), (_, node) => {
      if (node?.type === "ImportExpression" && typeof node.source.value === "string") imports.push(node);
      return node;
    });
    const next = new MagicString(code);
    for (const { source, start, end } of imports) {
      const names = exportsOf(this.parse(readFileSync(resolve(dirname(id), source.value), "utf8")));
      next.prepend(`import * as later${start} from ${JSON.stringify(source.value)};`);
      next.update(start, end, `Promise.resolve({${names.map((name) => `${name}: later${start}.${name}`)}})`);
    }
    return next.hasChanged() ? { code: next.toString(), map: next.generateMap({ source: id, hires: true }) } : null;
  },
};

/** The names that a module exports, each by a declaration of its own. @param {any} program */
function exportsOf({ body }) {
  const exports = body.filter((/** @type {any} */ { type }) => type === "ExportNamedDeclaration");
  return exports.flatMap((/** @type {any} */ { declaration: { id, declarations } }) =>
    (declarations ?? [{ id }]).map((/** @type {any} */ each) => each.id.name),
  );
}

/** @type {import("rolldown").Plugin} */
const withoutLater = { name: "later", resolveDynamicImport: (id) => ({ id: String(id), external: true }) };

/**
 * @param {string[]} entries  paths of modules; the bundle exports what they export
 * @param {object} [options]
 * @param {boolean} [options.atStart]  without the modules that a page loads when it needs them
 * @param {string} [options.file]  where the bundle will be: paths in its map begin there
 * @returns {Promise<{code: string, map: string}>}
 */
export async function bundle(entries, { atStart = false, file = "notifier.js" } = {}) {
  const exports = entries.map((path) => `export * from ${JSON.stringify(path)};`).join("");
  const entry = {
    name: "entry",
    resolveId: (/** @type {string} */ id) => (id === "entry" ? "\0entry" : null),
    load: (/** @type {string} */ id) => (id === "\0entry" ? exports : null),
  };
  const build = await rolldown({ input: "entry", plugins: [entry, sheets, atStart ? withoutLater : withLater] });
  const { output } = await build.generate({
    file,
    format: "esm",
    codeSplitting: false,
    sourcemap: true,
    minify: { compress: true, mangle: false, codegen: false },
  });
  await build.close();
  const [{ code, map, fileName }] = output;
  const { code: shorter, map: newMap } = await minify(code, {
    module: true,
    ecma: 2022,
    // "unsafe" for functions that are called with `new`: the client has classes only.
    compress: { passes: 5, hoist_funs: true, unsafe_arrows: true, lhs_constants: false, pure_getters: true },
    mangle: { properties: { regex: new RegExp(`^(${INTERNAL.join("|")})$`) } },
    sourceMap: { content: JSON.stringify(map), includeSources: true, url: `${fileName}.map` },
  });
  return { code: shorter ?? "", map: String(newMap) };
}
