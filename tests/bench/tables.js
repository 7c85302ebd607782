// What the benchmarks print: Markdown, which `--write` puts into docs/speed.md too.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, totalmem } from "node:os";
import { median, quantile } from "./calls.js";

const PAGE = new URL("../../docs/speed.md", import.meta.url);
const printed = [];

/** Prints a part of the tables. */
export function print(text) {
  printed.push(text);
  console.log(text);
}

/**
 * The page with `tables` between its marks `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`. Throws
 * where it does not have them.
 */
export function insertTables(page, name, tables) {
  const [first, last] = [`<!-- bench:${name} -->\n`, `<!-- /bench:${name} -->`];
  const begin = page.indexOf(first);
  const end = page.indexOf(last, begin);
  if (begin < 0 || end < 0) throw new Error(`docs/speed.md has no marks of bench:${name}`);
  return `${page.slice(0, begin)}${first}${tables.trim()}\n${page.slice(end)}`;
}

/** Fails at once, and not after minutes, where the tables could not be written. */
export function checkWritable(name) {
  insertTables(readFileSync(PAGE, "utf8"), name, "");
}

/** Writes all that was printed into docs/speed.md. */
export function writeTables(name) {
  writeFileSync(PAGE, insertTables(readFileSync(PAGE, "utf8"), name, printed.join("\n")));
}

/** When and on what it was measured. */
export function heading(runtime) {
  const date = new Date().toISOString().slice(0, 16).replace("T", " ");
  const processors = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return (
    `Measured ${date} UTC on ${processors.length} cores (${processors[0].model.trim()}), ` +
    `${memory} GiB; node ${process.versions.node}, ${runtime}`
  );
}

export function versionOfWorkerd() {
  const require = createRequire(createRequire(import.meta.url).resolve("miniflare"));
  return require("workerd/package.json").version;
}

/** p50, p99 and requests a second, as cells. */
export function timings({ latencies, rates }) {
  const all = latencies.flat();
  return [number(median(all)), number(quantile(all, 0.99)), number(median(rates), 0)];
}

/** p50 to p50 of each round, and of these the median. */
export function ratio(ours, theirs) {
  const rounds = Math.min(ours.latencies.length, theirs.latencies.length);
  const ratios = Array.from(
    { length: rounds },
    (_, round) => median(ours.latencies[round]) / median(theirs.latencies[round]),
  );
  return median(ratios);
}

/** A value; bold when it misses the aim. */
export function against(aim, value, digits) {
  const text = number(value, digits);
  return value > aim ? `**${text}**` : text;
}

export function number(value, digits = 2) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

export function printTable(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, at) => (at === 0 ? "---" : "---:"));
  print([line(head), line(rule), ...rows.map(line)].join("\n"));
}
