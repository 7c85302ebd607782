// The benchmark, `npm run bench`: how fast the exchange answers, next to a *floor* on the same
// local runtime that makes the same R2 operations and nothing else (floor.js), at 100 and at
// 10,000 threads; how large the wasm is and how long an isolate takes to start. Prints Markdown.
// Everything stays on this machine and ends within about six minutes on two slow cores. The
// buckets lie in the folder for temporary files; on a busy disk, TMPDIR=/dev/shm (500 MB) keeps
// its moods out of the writes.
//
//   node tests/bench/bench.js            all of it
//   node tests/bench/bench.js --write    and puts the tables into docs/speed.md
//   node tests/bench/bench.js --quick    in a minute or two, coarse: 1,000 threads, not 10,000
//   node tests/bench/bench.js --url http://host:port [--exchange home] [--key KEY] [--threads 100]
//                                        any other MESS server, over HTTP alone: posts so many
//                                        requests to it, then measures the same calls; without a
//                                        key it registers an executor

import { cpSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import {
  CALLS,
  CLAIM,
  CLIENTS,
  FULL,
  MESSAGE,
  measure,
  median,
  POST,
  progress,
  QUICK,
  REGISTER,
  Target,
} from "./calls.js";
import { measureStarts, readExchange, startExchange, startFloor } from "./servers.js";
import {
  against,
  checkWritable,
  heading,
  number,
  print,
  printTable,
  ratio,
  timings,
  versionOfWorkerd,
  writeTables,
} from "./tables.js";

/** Aims: printed next to what was measured, not enforced. */
const AIM_FLOOR = 1.3;
const AIM_GROWTH = 1.1;
const AIM_WASM_KB = 350;
const AIM_START_MS = 60;

/** When filling stops at the latest, and when measuring does, after the start. */
const FILL_MS = 200_000;
const TOTAL_MS = 320_000;
const EXECUTORS = 10;
const NOBODY = "00000000-0000-0000-0000-000000000000";

const started = Date.now();
const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    url: { type: "string" },
    exchange: { type: "string", default: "home" },
    key: { type: "string" },
    threads: { type: "string", default: "100" },
    write: { type: "boolean", default: false },
  },
});
if (options.write) {
  if (options.quick || options.url) throw new Error("--write goes with the whole benchmark only");
  checkWritable("r2");
}
const plan = options.quick ? QUICK : FULL;
progress(`this ends within about ${options.quick ? "two minutes" : "six minutes"}`);

if (options.url) await benchOther();
else await benchExchange();

async function benchExchange() {
  const exchange = await readExchange();
  const sizes = options.quick ? [100, 1000] : [100, 10_000];
  const folder = await mkdtemp(join(tmpdir(), "mess-bench-"));
  const servers = [];
  try {
    const starts = await measureStarts(exchange, options.quick ? 5 : 15);
    const targets = [];
    for (const size of sizes) {
      const state = join(folder, String(size));
      const { key, refs, samples } = await prepare(exchange, state, size);
      progress(`${refs.length} threads are there, copying the bucket for the floor`);
      // Synchronous: for 40,000 small files five times as fast.
      cpSync(state, `${state}-floor`, { recursive: true });
      servers.push(await startExchange(exchange, state));
      targets.push(new Target(`exchange, ${size}`, servers.at(-1).url, { key, refs }));
      servers.push(await startFloor(samples, `${state}-floor`));
      targets.push(new Target(`floor, ${size}`, servers.at(-1).url, { key, refs }));
    }
    const rows = await measureAll(targets);
    print(`${heading(`workerd ${versionOfWorkerd()}`)}\n`);
    printTables(rows, targets);
    printStart(exchange.wasm, starts);
    if (options.write) writeTables("r2");
    console.log(`\nTook ${Math.round((Date.now() - started) / 1000)} s.`);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(folder, { recursive: true, force: true });
  }
}

async function benchOther() {
  const target = new Target("other", options.url, options);
  target.key ??= await target.register();
  await target.fill(Number(options.threads), started + FILL_MS);
  const rows = await measureAll([target]);
  console.log(`${heading(`${options.url} with ${target.refs.length} threads`)}\n`);
  const cells = rows.map(({ call, results, problem }) => [
    call.name,
    ...(problem ? [problem, "", ""] : timings(results[0])),
  ]);
  printTable(["call", "p50 ms", "p99 ms", "req/s"], cells);
}

/** All calls on all targets; each may take an equal share of the time that is left. */
async function measureAll(targets) {
  const rows = [];
  for (const [at, call] of CALLS.entries()) {
    progress(call.name);
    const now = Date.now();
    const share = (started + TOTAL_MS - now) / (CALLS.length - at);
    try {
      rows.push({ call, results: await measure(call, targets, plan, now + share) });
    } catch (error) {
      // Another server need not have every call.
      if (!options.url) throw error;
      rows.push({ call, problem: error.message.slice(0, 80) });
    }
  }
  return rows;
}

/**
 * A bucket with so many threads and ten executors, made by the exchange itself; and what the
 * exchange wrote and answered at each call, for the floor.
 */
async function prepare(exchange, state, threads) {
  const server = await startExchange(exchange, state);
  try {
    const target = new Target("preparation", server.url);
    target.key = await target.register("agent");
    for (let n = 2; n < EXECUTORS; n += 1) await target.register(`helper-${n}`);
    const samples = await sampleWrites(server, target);
    await target.fill(threads, started + FILL_MS);
    await server.rest();
    for (const [name, path] of [
      ["health", "/health"],
      ["thread", `requests/${target.refs[1]}`],
      ["all", "requests"],
      ["pending", "requests?status=pending"],
      ["executors", "executors"],
    ]) {
      samples[name] = { answer: (await target.demand({ method: "GET", path })).text };
    }
    return { key: target.key, refs: target.refs, samples };
  } finally {
    await server.stop();
  }
}

/** Makes each call that writes once, and sees what is in the bucket afterwards. */
async function sampleWrites(server, target) {
  const write = async (request) => {
    const before = await server.objects("");
    const { text: answer } = await target.demand(request);
    await server.rest();
    const added = [...(await server.objects(""))].filter(
      ([key, { text }]) => before.get(key)?.text !== text,
    );
    const at = (prefix) => added.find(([key]) => key.startsWith(prefix))?.[1];
    const sample = { answer, log: at("events/").text };
    return { sample, at };
  };
  const due = (subject) =>
    JSON.stringify({ id: NOBODY, opened_at: new Date(), ...subject, failures: 0 });

  const posted = await write(POST.request());
  const { ref } = JSON.parse(posted.sample.answer);
  const dueThread = due({ kind: "thread", exchange_id: target.exchange, ref });
  let thread = posted.at("threads/").text;
  const post = { ...posted.sample, due: dueThread, entry: posted.at("index/").text, thread };
  const change = async (request) => {
    const { sample, at } = await write(request);
    const growth = " ".repeat(at("threads/").text.length - thread.length);
    thread = at("threads/").text;
    return { ...sample, due: dueThread, entry: at("index/").text, growth };
  };
  const claim = await change(CLAIM.request(target, ref));
  const message = await change(MESSAGE.request(target, ref));
  // Pending like all others again.
  await change({ method: "PATCH", path: `requests/${ref}`, body: { status: "pending" } });
  target.refs.push(ref);

  const registration = REGISTER.request();
  const registered = await write(registration);
  const record = registered.at("executors/");
  const register = {
    ...registered.sample,
    due: due({
      kind: "registration",
      exchange_id: target.exchange,
      executor_id: registration.body.executor_id,
      key_hash: NOBODY.slice(4) + NOBODY.slice(4),
      event: JSON.parse(registered.sample.log),
    }),
    key: registered.at("keys/").text,
    record: record.text,
    summary: record.summary,
  };
  return { post, claim, message, register };
}

function printTables(rows, targets) {
  const sizes = [targets[0].refs.length, targets[2].refs.length];
  print(
    `One client for p50 and p99, ${CLIENTS} for req/s. × floor: p50 to p50, the median of ` +
      `interleaved rounds. Misses of an aim are bold.\n`,
  );
  for (const [at, size] of sizes.entries()) {
    print(`### ${size.toLocaleString("en")} threads\n`);
    const cells = rows.map(({ call, results }) => {
      const [ours, floor] = results.slice(2 * at);
      return [
        call.name,
        ...timings(ours),
        number(median(floor.latencies.flat())),
        number(median(floor.rates), 0),
        against(AIM_FLOOR, ratio(ours, floor)),
      ];
    });
    printTable(
      ["call", "p50 ms", "p99 ms", "req/s", "floor p50", "floor req/s", `× floor (${AIM_FLOOR})`],
      cells,
    );
    print("");
  }
  const [few, many] = sizes.map((size) => size.toLocaleString("en"));
  print(`### ${many} threads to ${few}\n`);
  const cells = rows.map(({ call, results: [ours, floor, oursMany, floorMany] }) => [
    call.name,
    against(AIM_GROWTH, ratio(oursMany, ours)),
    number(ratio(floorMany, floor)),
  ]);
  printTable(["call", `exchange, p50 to p50 (${AIM_GROWTH})`, "floor, p50 to p50"], cells);
}

function printStart(wasm, { exchange, trivial }) {
  const kilobytes = (bytes) => bytes.length / 1000;
  const zipped = kilobytes(gzipSync(wasm, { level: 9 }));
  print("\n### Size and start\n");
  printTable(
    ["", "measured", "aim"],
    [
      ["wasm, gzipped, kB", against(AIM_WASM_KB, zipped, 0), String(AIM_WASM_KB)],
      ["wasm, raw, kB", number(kilobytes(wasm), 0), ""],
      [
        "cold isolate to first answer, ms",
        against(AIM_START_MS, median(exchange), 0),
        String(AIM_START_MS),
      ],
      ["the same of a Worker of one line, ms", number(median(trivial), 0), ""],
    ],
  );
}
