/**
 * What the npm package has beside `client/`: declarations in `types/`, one bundle in `dist/js/`, and the pictures that
 * the bundle refers to in `dist/icons/`. `npm pack` runs it.
 */

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { bundle } from "./bundle.js";

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
for (const folder of ["types", "dist/js", "dist/icons"]) rmSync(folder, { recursive: true, force: true });

const tsc = join("node_modules", ".bin", "tsc");
// Without a check: that is `npm run check`.
const declarations = ["--declaration", "--emitDeclarationOnly", "--noCheck", "--outDir", "types"];
execFileSync(tsc, ["-p", "client", "--noEmit", "false", ...declarations]);
for (const name of readdirSync("client", { recursive: true })) {
  if (name.endsWith(".d.ts")) cpSync(join("client", name), join("types", name)); // tsc emits those of .js files only
}

const file = join("dist", "js", "notifier.js");
const { code, map } = await bundle([resolve("client/bundle.js")], { file: resolve(file) });
mkdirSync(dirname(file), { recursive: true });
writeFileSync(file, code);
writeFileSync(`${file}.map`, map);
cpSync("client/icons", "dist/icons", { recursive: true });
