// The build that workerd runs, and whether it is whole: the file manifest.json, which scripts/build.sh
// writes last, names its mode and the digest of each of its files.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { Problem } from "./settings.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Where the builds of the exchange and of the tools lie. */
export const EXCHANGE_BUILD = join(ROOT, "build");
export const TOOLS_BUILD = join(ROOT, "build/tools");

const FILES = ["index.js", "index_bg.wasm"];

/** Writes the manifest of the build in `folder`; `mode` is release or dev. */
export function writeManifest(folder, mode) {
  const files = Object.fromEntries(FILES.map((name) => [name, digest(join(folder, name))]));
  writeFileSync(join(folder, "manifest.json"), `${JSON.stringify({ mode, files }, null, 2)}\n`);
}

/** Throws a problem unless the build in `folder` is whole and of that mode. */
export function checkBuild(folder, mode = "release") {
  const shown = relative(ROOT, folder);
  // A release brings its build and cannot make another.
  const remedy = existsSync(join(EXCHANGE_BUILD, "RELEASE"))
    ? "unpack the release again"
    : "run npm run build";
  const manifest = readManifest(join(folder, "manifest.json"));
  if (!manifest) throw new Problem(`${shown}/ holds no finished build: ${remedy}`);
  if (manifest.mode !== mode) {
    throw new Problem(
      `${shown}/ holds a build of npm run dev, which is not optimised: run npm run build`,
    );
  }
  for (const name of FILES) {
    if (digest(join(folder, name)) !== manifest.files?.[name]) {
      throw new Problem(`${shown}/${name} is not what the build wrote: ${remedy}`);
    }
  }
}

function readManifest(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/** The SHA-256 of a file, or undefined where it cannot be read. */
function digest(file) {
  try {
    return createHash("sha256").update(readFileSync(file)).digest("hex");
  } catch {
    return undefined;
  }
}
