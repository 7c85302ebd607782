// The docs: links and paths lead somewhere, and what can be run does what is printed.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { PersonReport } from "../selfhost/report.js";
import { readServer } from "../selfhost/settings.js";
import { startExchange } from "./support/exchange.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const BASE = "http://localhost:3000";
const MOMENT = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g;
const REF = /\d{4}-\d\d-\d\d-[0-9A-Z]{4,6}/g;
const KEY = /mess_\w+_[\w-]{16,}/g;

const README_LINES = 150;

const read = (file) => readFileSync(join(ROOT, file), "utf8");
const PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
PAGES.push(...globSync("docs/*.md", { cwd: ROOT }));

/** The lines of a page, numbered, that are not in a code fence. */
function prose(file) {
  let fence;
  return read(file)
    .split("\n")
    .flatMap((line, at) => {
      const mark = /^\s*(```+|~~~+)/.exec(line)?.[1];
      if (fence) {
        if (mark?.startsWith(fence)) fence = undefined;
        return [];
      }
      fence = mark;
      return mark ? [] : [{ line, number: at + 1 }];
    });
}

/** The anchors of a page, by GitHub's rules: one for each heading, and those that HTML names. */
function anchors(file) {
  const found = new Set();
  for (const { line } of prose(file)) {
    for (const [, name] of line.matchAll(/<a (?:id|name)="([^"]+)"/g)) found.add(name);
    const heading = /^ {0,3}#{1,6}\s+(.*?)\s*#*$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const slug = heading
      .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replace(/[^\p{L}\p{M}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-");
    let name = slug;
    for (let n = 1; found.has(name); n += 1) name = `${slug}-${n}`;
    found.add(name);
  }
  return found;
}

test("every link of the docs leads somewhere", () => {
  const broken = [];
  let count = 0;
  for (const file of PAGES) {
    for (const { line, number } of prose(file)) {
      const text = line.replace(/`[^`]*`/g, "");
      const targets = [...text.matchAll(/\]\(<?([^)\s>]+)[^)]*\)|^\s*\[[^\]]+\]:\s*<?([^\s>]+)/g)];
      const attributes = text.matchAll(/(?:href|src)="([^"]+)"/g);
      for (const [, a, b] of [...targets, ...attributes]) {
        const target = a ?? b;
        if (/^[a-z]+:/i.test(target)) continue;
        count += 1;
        const problem = problemOf(target, file);
        if (problem) broken.push(`${file}:${number}: ${target} ${problem}`);
      }
    }
  }
  assert.deepEqual(broken, []);
  assert.ok(count >= 10, `only ${count} links were found`);
});

/** What is wrong with a relative link of a page, if anything. */
function problemOf(target, file) {
  const [path, anchor] = decodeURIComponent(target).split("#");
  const place = path ? resolve(ROOT, dirname(file), path) : join(ROOT, file);
  if (!existsSync(place)) return "does not exist";
  if (anchor === undefined) return undefined;
  if (!place.endsWith(".md")) return "has an anchor, but is no page";
  return anchors(relative(ROOT, place)).has(anchor) ? undefined : "has no such heading";
}

/** Where a path in the docs may begin: at the root, or, as in ARCHITECTURE.md, in src/. */
const STARTS = ["", "src"];
const FOLDER = /^(?:src|selfhost|scripts|tests|docs|deploy|\.ci)\//;
const SOURCE = /^[\w./-]+\/[\w.-]+\.(?:rs|js|sh|py|sql|toml|md)$/;

test("every file that the docs name is there", () => {
  const missing = [];
  let count = 0;
  // The changelog tells of what was.
  for (const file of PAGES.filter((page) => page !== "CHANGELOG.md")) {
    for (const { line, number } of prose(file)) {
      for (const [, code] of line.matchAll(/`([^`]+)`/g)) {
        for (const word of code.split(/\s+/)) {
          if (!/^[\w./-]+$/.test(word) || !(FOLDER.test(word) || SOURCE.test(word))) continue;
          count += 1;
          const isThere = STARTS.some((start) => existsSync(join(ROOT, start, word)));
          if (!isThere) missing.push(`${file}:${number}: ${word}`);
        }
      }
    }
  }
  assert.deepEqual(missing, []);
  assert.ok(count >= 10, `only ${count} paths were found`);
});

test("README.md is short", () => {
  const lines = read("README.md").trimEnd().split("\n").length;
  assert.ok(lines <= README_LINES, `${lines} lines`);
});

/** Runs bash; gives what it printed. */
async function bash(script, exchange, cwd = ROOT) {
  const url = exchange.url.toString().replace(/\/$/, "");
  const args = ["-euo", "pipefail", "-c", script.replaceAll(BASE, url)];
  const { stdout } = await promisify(execFile)("bash", args, { cwd, timeout: 60_000 });
  return stdout;
}

for (const [file, least] of [
  ["README.md", 1],
  ["docs/quickstart.md", 2],
  ["docs/access.md", 3],
]) {
  test(`${file} can be pasted as a whole, and prints the answer that it shows`, async () => {
    const page = read(file);
    const blocks = [...page.matchAll(/^```bash\n(.*?)^```$/gms)];
    assert.ok(blocks.length >= least, `only ${blocks.length} blocks of bash were found`);
    const last = blocks.at(-1);
    const shown = /^```(text|json)\n(.*?)^```$/ms.exec(page.slice(last.index + last[0].length));
    assert.ok(shown, "below its last block stands no answer");
    const scripts = blocks.map(([, script]) => script);
    // What the last block prints stands behind this sign.
    const sign = "--- the last block ---";
    scripts.splice(-1, 0, `echo '${sign}'\n`);
    const exchange = await startExchange();
    const folder = await mkdtemp(join(tmpdir(), "mess-quickstart-"));
    try {
      const printed = (await bash(scripts.join("\n"), exchange, folder)).split(sign).at(-1);
      const plain = (text) => {
        const same = text.replaceAll(MOMENT, "then").replaceAll(REF, "ref").replaceAll(KEY, "key");
        return shown[1] === "json" ? JSON.parse(same) : same.trim();
      };
      assert.deepEqual(plain(printed), plain(shown[2]));
      await exchange.rest();
      await exchange.assertSound();
    } finally {
      await exchange.stop();
      await rm(folder, { recursive: true });
    }
  });
}

test("what the start says to try works as it is printed", async () => {
  const lines = [];
  new PersonReport((line) => lines.push(line), "1.2.3").serving(readServer({}));
  const printed = lines.join("\n");
  const command = /^ +Try +(curl .*?\n)(?= {0,2}\S|\n)/ms.exec(printed)?.[1];
  assert.ok(command, printed);
  const exchange = await startExchange();
  try {
    const answer = JSON.parse(await bash(command.replace("curl ", "curl -sS "), exchange));
    assert.match(answer.api_key ?? JSON.stringify(answer), /^mess_home_/);
  } finally {
    await exchange.stop();
  }
});

/** The examples of a page, calls of curl with an answer below them: {command, answer}. */
function examples(file) {
  const blocks = [...read(file).matchAll(/```bash\n(.*?)```\n+```json\n(.*?)```/gs)];
  return blocks
    .map(([, command, answer]) => ({ command, answer: JSON.parse(answer) }))
    .filter(({ command }) => command.includes(BASE));
}

/** Runs the examples; `known` has what is printed for keys and refs, and what stands for it. */
async function tryAll(exchange, file, known) {
  const all = examples(file);
  for (const { command, answer } of all) {
    let line = command;
    for (const [printed, real] of known) line = line.replaceAll(printed, real);
    const got = JSON.parse(await bash(line.replace("curl ", "curl -sS "), exchange));
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
    "docs/walkthrough.md",
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
    "docs/api.md",
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
