// The steps that set-up and builds show: scripts/steps.sh.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { collect } from "./support/selfhosted.js";
import { atTerminal } from "./support/terminal.js";

const STEPS = fileURLToPath(new URL("../scripts/steps.sh", import.meta.url));
const script = (text) => ["bash", "-c", `set -euo pipefail; source ${STEPS}; ${text}`, "try.sh"];

const run = (text) => {
  const [command, ...rest] = script(text);
  return collect(spawn(command, rest));
};

test("a step that succeeds is named, and how long it took; what it wrote is not shown", async () => {
  const { code, stdout, stderr } = await run(
    'run_step "baking a cake (about a second)" bash -c "echo noise; echo noise >&2; sleep 1"; echo on',
  );
  assert.equal(code, 0);
  assert.equal(stdout, "on\n");
  assert.match(
    stderr,
    /^try: baking a cake \(about a second\)\ntry: baking a cake \(about a second\): done in [12] s\n$/,
  );
});

test("a step that fails shows its last 40 lines, and ends the script", async () => {
  const { code, stdout, stderr } = await run(
    'run_step "counting" bash -c "seq 60; false"; echo on',
  );
  assert.equal(code, 1);
  assert.equal(stdout, "");
  const counted = Array.from({ length: 40 }, (_, at) => `${at + 21}\n`).join("");
  assert.match(stderr, /^try: counting: FAILED after \d s$/m);
  assert.ok(stderr.endsWith(`\n${counted}`), stderr);
});

test("all steps that were begun come to their end, also when one of them fails", async () => {
  const { code, stderr } = await run('begin "one" false; begin "another" sleep 1; finish_all');
  assert.equal(code, 1);
  assert.match(stderr, /^try: another: done in [12] s$/m);
});

test("at a terminal a step is one line, which counts the seconds", async () => {
  const { code, screen } = await atTerminal(script('run_step "waiting" sleep 2; echo on'), {});
  assert.equal(code, 0, screen);
  assert.equal(screen.split("\n").filter((line) => !line.includes("waiting")).length, 2, screen);
  assert.match(screen, /\[1 s\] waiting\n/);
  assert.match(screen, /\[done in [23] s\] waiting\n.*on\n$/);
});

test("Ctrl-C ends what a step does", async () => {
  const text = 'work() { echo $$ >&2; exec sleep 77; }; run_step "waiting" work';
  const { code, screen } = await atTerminal(script(text), {}, /waiting/);
  assert.notEqual(code, 0, screen);
  const { stdout } = await collect(spawn("ps", ["-eo", "args"]));
  assert.ok(!stdout.split("\n").includes("sleep 77"), "it goes on");
});
