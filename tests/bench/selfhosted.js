// The benchmark of self-hosting, `npm run bench:selfhosted`: the start script with workerd and all,
// over a directory or over S3 (Miniflare's server, on the same cores), at 100 and at 10,000
// threads. On a directory reading a thread stands next to a *floor*, a Worker of a few lines that
// reads the same file by workerd's disk service. Then the resident memory of the whole server over
// 100,000 requests. Prints Markdown; about six minutes on two slow cores.
//
//   node tests/bench/selfhosted.js [filesystem|s3] [--quick]
//   node tests/bench/selfhosted.js [filesystem|s3] --write    puts the tables into docs/speed.md

import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMPATIBILITY_DATE } from "../../selfhost/config.js";
import { Runtime } from "../../selfhost/runtime.js";
import { freePort, startMiniflareS3 } from "../support/s3.js";
import { openDirectory, SelfHosted } from "../support/selfhosted.js";
import {
  CALLS,
  CLIENTS,
  FULL,
  measure,
  POST,
  progress,
  QUICK,
  Target,
  workerdOf,
} from "./calls.js";
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
const AIM_FLOOR = 2;
const AIM_GROWTH = 1.2;
const AIM_MEMORY_MB = 150;

const quick = process.argv.includes("--quick");
const backend = process.argv.includes("s3") ? "s3" : "filesystem";
/** The name of its tables in docs/speed.md, where they are to be written. */
const written =
  process.argv.includes("--write") && (backend === "s3" ? "selfhosted-s3" : "selfhosted");
if (written) {
  if (quick) throw new Error("--write goes with the whole benchmark only");
  checkWritable(written);
}
const sizes = quick ? [100, 1_000] : [100, 10_000];
const plan = quick ? QUICK : FULL;
const requests = quick ? 10_000 : 100_000;
const folder = await mkdtemp(join(tmpdir(), "mess-bench-"));
const servers = [];
try {
  const targets = [];
  for (const size of sizes) {
    const state = join(folder, String(size));
    const store = await (backend === "s3" ? startMiniflareS3(state) : openDirectory(state));
    const server = await SelfHosted.start(store, { LIMITS: "off" });
    servers.push(server);
    // A line for each request is more than a test can hold.
    server.logs.push = () => {};
    const target = new Target(`${backend}, ${size}`, server.url);
    target.key = await target.register("agent");
    for (let n = 2; n < 10; n += 1) await target.register(`helper-${n}`);
    await target.fill(size, Date.now() + 400_000);
    progress(`${target.refs.length} threads are there`);
    targets.push(target);
  }
  const floors = [];
  if (backend === "filesystem") {
    for (const [at, size] of sizes.entries()) {
      const copy = join(folder, `${size}-floor`);
      cpSync(join(folder, String(size)), copy, { recursive: true });
      const { key, refs } = targets[at];
      floors.push(new Target(`floor, ${size}`, await startFloor(copy), { key, refs }));
    }
  }
  const rows = [];
  for (const call of CALLS) {
    progress(call.name);
    const isRead = call.name === "GET /requests/{ref}";
    const all = isRead ? [...targets, ...floors] : targets;
    rows.push({ call, results: await measure(call, all, plan, Date.now() + 40_000) });
  }
  print(`${heading(`workerd ${versionOfWorkerd()}, ${backend}`)}\n`);
  printCalls(rows);
  print(`\n### Resident memory, MB (aim ${AIM_MEMORY_MB})\n`);
  printTable(
    ["requests", "workerd", "start script", "together"],
    await memory(servers[0], targets[0]),
  );
  if (written) writeTables(written);
} finally {
  await Promise.all(servers.map((server) => server.stop()));
  rmSync(folder, { recursive: true, force: true });
}

/** The Worker that reads one file and does nothing else; gives its address. */
async function startFloor(disk) {
  const port = await freePort();
  const script = join(folder, "floor.js");
  writeFileSync(
    script,
    `export default { fetch(request, env) {
       const ref = new URL(request.url).pathname.split("/").at(-1);
       return env.DISK.fetch("http://disk/threads/exchange=home/" + ref + ".json");
     } }`,
  );
  const text = JSON.stringify;
  const configure = (socket) => `using Workerd = import "/workerd/workerd.capnp";
    const config :Workerd.Config = (
      services = [
        (name = "floor", worker = (
          compatibilityDate = "${COMPATIBILITY_DATE}",
          modules = [(name = "floor.js", esModule = embed ${text(script)})],
          bindings = [(name = "DISK", service = "disk")])),
        (name = "disk", disk = (path = ${text(disk)}))],
      sockets = [
        (name = "http", address = "127.0.0.1:${port}", http = (), service = "floor"),
        (name = "up", address = ${text(`unix:${socket}`)}, http = (), service = "floor")]);`;
  const runtime = new Runtime(configure, {});
  servers.push({ stop: () => runtime.stop() });
  // Its answers are no JSON, as those that the runtime waits for.
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/x`).catch(() => undefined);
    if (runtime.hasExited) throw new Error(runtime.firstError);
    if (answer) return `http://127.0.0.1:${port}`;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function printCalls(rows) {
  const [few, many] = sizes.map((size) => size.toLocaleString("en"));
  print(
    `One client for p50 and p99, ${CLIENTS} for req/s. Growth and × floor: p50 to p50, the median of ` +
      "interleaved rounds. Misses of an aim are bold.\n",
  );
  const cells = rows.map(({ call, results: [small, large, ...floor] }) => [
    call.name,
    ...timings(small),
    ...timings(large),
    against(AIM_GROWTH, ratio(large, small)),
    floor.length ? against(AIM_FLOOR, ratio(large, floor[1])) : "",
  ]);
  printTable(
    [
      "call",
      ...["p50 ms", "p99 ms", "req/s"].map((name) => `${few}: ${name}`),
      ...["p50 ms", "p99 ms", "req/s"].map((name) => `${many}: ${name}`),
      `growth (${AIM_GROWTH})`,
      `× floor (${AIM_FLOOR})`,
    ],
    cells,
  );
}

/** What the server's processes take after each tenth of a mixed load: of 20, one posts, two list. */
async function memory(server, target) {
  const pids = { script: server.child.pid, workerd: workerdOf(server.child.pid) };
  const rows = [];
  const sample = (done) => {
    const [workerd, script] = [resident(pids.workerd), resident(pids.script)];
    rows.push([
      done.toLocaleString("en"),
      number(workerd, 0),
      number(script, 0),
      against(AIM_MEMORY_MB, workerd + script, 0),
    ]);
  };
  sample(0);
  let begun = 0;
  const step = requests / 10;
  for (let tenth = 1; tenth <= 10; tenth += 1) {
    const client = async () => {
      while (begun < tenth * step) {
        begun += 1;
        const [post, list] = [begun % 20 === 0, begun % 20 === 1 || begun % 20 === 2];
        const call = post ? POST : CALLS[list ? 2 : 1];
        await target.demand(call.request(target));
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    sample(begun);
    progress(`${begun} requests, ${rows.at(-1)[3]} MB`);
  }
  return rows;
}

/** Resident memory in MB. */
function resident(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) / 1_000;
}
