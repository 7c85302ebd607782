// The manifest of a build, for the other scripts:
//
//   node scripts/manifest.js write FOLDER [MODE]    writes it; MODE is release or dev
//   node scripts/manifest.js check FOLDER [MODE]    fails unless the build is whole and of that mode

import { resolve } from "node:path";
import { checkBuild, writeManifest } from "../selfhost/build.js";

const [action, folder, mode = "release"] = process.argv.slice(2);
try {
  if (action === "write") writeManifest(resolve(folder), mode);
  else checkBuild(resolve(folder), mode);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
