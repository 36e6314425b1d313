/**
 * What the npm package has beside `client/`: declarations in `types/`, one bundle in `dist/js/`, and the pictures that
 * the bundle refers to in `dist/icons/`. `npm pack` runs it.
 */

import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
for (const folder of ["types", "dist/js", "dist/icons"]) rmSync(folder, { recursive: true, force: true });

const tsc = join("node_modules", ".bin", "tsc");
execFileSync(tsc, ["-p", "client", "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", "types"]);
for (const name of readdirSync("client", { recursive: true })) {
  if (name.endsWith(".d.ts")) cpSync(join("client", name), join("types", name)); // tsc emits those of .js files only
}

await build({
  entryPoints: { notifier: "client/bundle.js" },
  outdir: "dist/js",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  sourcemap: true,
  logLevel: "error",
});
cpSync("client/icons", "dist/icons", { recursive: true });
