// What the benchmarks print: Markdown.

import { createRequire } from "node:module";
import { cpus, totalmem } from "node:os";
import { median, quantile } from "./calls.js";

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
  console.log([line(head), line(rule), ...rows.map(line)].join("\n"));
}
