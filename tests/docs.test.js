// The examples of the docs, tried as they are printed: each call of curl with a whole address, run by a
// shell, and its answer held against the one below it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { promisify } from "node:util";
import { startExchange } from "./support/exchange.js";

const BASE = "http://localhost:3000";
const MOMENT = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;

/** The examples of a document: {command, answer}, in their order. */
async function examples(file) {
  const text = await readFile(new URL(`../${file}`, import.meta.url), "utf8");
  const blocks = [...text.matchAll(/```bash\n(.*?)```\n```json\n(.*?)```/gs)];
  return blocks
    .map(([, command, answer]) => ({ command, answer: JSON.parse(answer) }))
    .filter(({ command }) => command.includes(BASE));
}

/** Runs the examples; `known` has what is printed for keys and refs, and what stands for it. */
async function tryAll(exchange, file, known) {
  const all = await examples(file);
  for (const { command, answer } of all) {
    let line = command.replaceAll(BASE, exchange.url.toString().replace(/\/$/, ""));
    for (const [printed, real] of known) line = line.replaceAll(printed, real);
    const { stdout } = await promisify(execFile)("bash", [
      "-c",
      line.replace("curl ", "curl -sS "),
    ]);
    const got = JSON.parse(stdout);
    if (got.ref && !known.has(answer.ref)) known.set(answer.ref, got.ref);
    if (got.api_key) known.set(answer.api_key, got.api_key);
    let shown = JSON.stringify(got);
    for (const [printed, real] of known) shown = shown.replaceAll(real, printed);
    const plain = (text) => JSON.parse(text.replaceAll(MOMENT, "then"));
    assert.deepEqual(plain(shown), plain(JSON.stringify(answer)), command);
  }
  return all.length;
}

for (const [file, least, prepare] of [
  [
    "README.md",
    9,
    async (exchange) => {
      const robot = await exchange.register("robot", { capabilities: ["manipulator"] });
      const days = (count) => new Date(Date.now() + count * 86_400_000).toISOString().slice(0, 10);
      return [
        ["mess_home_def456...", robot.key],
        // A moment that is always to come.
        ["2027-02-01", days(3)],
      ];
    },
  ],
  [
    "docs/API.md",
    4,
    async (exchange) => {
      const phone = await exchange.register("phone");
      const agent = await exchange.register("agent");
      return [
        ["mess_home_abc123...", phone.key],
        ["mess_home_def456...", agent.key],
        ["2026-11-26-RBVPD", await agent.ask("Check a door")],
      ];
    },
  ],
]) {
  test(`the examples of ${file}`, async () => {
    const exchange = await startExchange();
    try {
      const count = await tryAll(exchange, file, new Map(await prepare(exchange)));
      assert.ok(count >= least, `only ${count} examples were found`);
      await exchange.rest();
      await exchange.assertSound();
    } finally {
      await exchange.stop();
    }
  });
}
