// A start on a build that is not whole, or not optimised, is refused with a sentence.

import assert from "node:assert/strict";
import { appendFile, cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "../support/s3.js";
import { collect, spawnStart } from "../support/selfhosted.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const FILES = ["index.js", "index_bg.wasm", "manifest.json"];

/** A copy of what a start needs, whose build is spoiled. */
let copy;
before(async () => {
  copy = await mkdtemp(join(tmpdir(), "mess-build-"));
  await cp(join(ROOT, "selfhost"), join(copy, "selfhost"), { recursive: true });
  await cp(join(ROOT, "package.json"), join(copy, "package.json"));
  await symlink(join(ROOT, "node_modules"), join(copy, "node_modules"));
});
beforeEach(async () => {
  await rm(join(copy, "build"), { recursive: true, force: true });
  for (const folder of ["build", "build/tools"]) {
    for (const name of FILES) await cp(join(ROOT, folder, name), join(copy, folder, name));
  }
});
after(() => rm(copy, { recursive: true }));

const spoil = {
  "no manifest": () => rm(join(copy, "build/manifest.json")),
  "a manifest that was cut off": () => writeFile(join(copy, "build/manifest.json"), '{"mode": "re'),
  "no wasm": () => rm(join(copy, "build/index_bg.wasm")),
  "another wasm": () => appendFile(join(copy, "build/index_bg.wasm"), "\0"),
  "another script": () => appendFile(join(copy, "build/index.js"), ";"),
  "a build of npm run dev": async () => {
    const file = join(copy, "build/manifest.json");
    const manifest = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...manifest, mode: "dev" }));
  },
  "a release that is damaged": async () => {
    await writeFile(join(copy, "build/RELEASE"), "1.2.3");
    await appendFile(join(copy, "build/index_bg.wasm"), "\0");
  },
};

for (const [what, expected] of [
  ["no manifest", "build/ holds no finished build: run npm run build"],
  ["a manifest that was cut off", "build/ holds no finished build: run npm run build"],
  ["no wasm", "build/index_bg.wasm is not what the build wrote: run npm run build"],
  ["another wasm", "build/index_bg.wasm is not what the build wrote: run npm run build"],
  ["another script", "build/index.js is not what the build wrote: run npm run build"],
  [
    "a build of npm run dev",
    "build/ holds a build of npm run dev, which is not optimised: run npm run build",
  ],
  [
    "a release that is damaged",
    "build/index_bg.wasm is not what the build wrote: unpack the release again",
  ],
]) {
  test(`${what} is refused`, async () => {
    await spoil[what]();
    const { code, output } = await start();
    assert.equal(code, 1, output);
    assert.equal(JSON.parse(output).message, expected);
  });
}

test("the copy itself is fit to start: it is asked for its settings", async () => {
  const { code, output } = await start({ DEFAULT_EXCHANGE: "not an id" });
  assert.equal(code, 1, output);
  assert.match(JSON.parse(output).message, /^the setting DEFAULT_EXCHANGE must be/);
});

/** Starts the copy, which is to refuse. */
async function start(env = {}) {
  const settings = { PORT: String(await freePort()), STORAGE_PATH: join(copy, "data"), ...env };
  const child = spawnStart(settings, {}, join(copy, "selfhost/start.js"));
  const late = setTimeout(() => child.kill(), 20_000);
  const { code, stdout, stderr } = await collect(child);
  clearTimeout(late);
  return { code, output: stdout + stderr };
}
