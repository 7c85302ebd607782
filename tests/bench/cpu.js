// How much processor time a call costs, next to another checkout: both start their own start script
// on a directory of their own, and get the same calls in turn, A B A B …, over four connections.
// What is counted is the time of workerd alone (Linux: /proc), which other programs on the machine
// disturb far less than they disturb the latency. Prints Markdown; a minute or two.
//
//   npm run bench:cpu -- --against DIR [--rounds 5] [--calls 4000] [--warm-up 500]
//
// DIR is another checkout, or a release, that is built and has its packages installed.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { freePort } from "../support/s3.js";
import { median, progress, Target, workerdOf } from "./calls.js";
import { number, printTable } from "./tables.js";

const CONNECTIONS = 4;
const THREADS = 20;
/** Where the start script lies, the newest layout first. */
const STARTS = ["selfhost/start.js", "deploy/workerd/start.js"];
const START_WITHIN_MS = 60_000;

const { values: options } = parseArgs({
  options: {
    against: { type: "string" },
    rounds: { type: "string", default: "5" },
    calls: { type: "string", default: "4000" },
    "warm-up": { type: "string", default: "500" },
  },
});
if (!options.against) throw new Error("--against DIR names the other checkout");
const [rounds, calls, warmUp] = ["rounds", "calls", "warm-up"].map((name) => {
  const count = Number(options[name]);
  if (!Number.isInteger(count) || count < 1) throw new Error(`--${name} must be a number`);
  return count;
});

/** Microseconds of one tick of the processor time that /proc gives. */
const TICK_US = 1_000_000 / Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

const CALLS = [
  ["GET /health", () => "/health"],
  [
    "GET /requests/{ref}",
    ({ refs }, n) => `/api/v1/exchanges/home/requests/${refs[n % refs.length]}`,
  ],
];

/** An exchange under its own start script, with one executor and some requests. */
class Server {
  static async start(checkout) {
    const script = STARTS.map((path) => join(checkout, path)).find((path) => existsSync(path));
    if (!script) throw new Error(`${checkout} has no start script`);
    const server = new Server();
    server.folder = await mkdtemp(join(tmpdir(), "mess-cpu-"));
    const port = await freePort();
    const { PATH, HOME } = process.env;
    const env = {
      PATH,
      HOME,
      HOST: "127.0.0.1",
      PORT: String(port),
      STORAGE_PATH: server.folder,
      // One key makes all the calls. They are counted as elsewhere.
      LIMITS: '{"calls": 1000000, "changes": 1000000, "requests": 1000000}',
    };
    const stdio = ["ignore", "pipe", "inherit"];
    server.child = spawn(process.execPath, [script], { cwd: checkout, env, stdio });
    process.on("exit", () => server.child.kill("SIGKILL"));
    server.ended = new Promise((done) => server.child.on("close", done));
    await server.#untilServing();
    server.workerd = workerdOf(server.child.pid);
    server.agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
    server.url = `http://127.0.0.1:${port}`;
    const target = new Target(checkout, server.url);
    target.key = await target.register("agent");
    await target.fill(THREADS, Date.now() + START_WITHIN_MS);
    Object.assign(server, { key: target.key, refs: target.refs });
    return server;
  }

  #untilServing() {
    return new Promise((serving, failed) => {
      const late = setTimeout(() => failed(new Error("it does not start")), START_WITHIN_MS);
      let last = "it ended at once";
      // Read to the end: a pipe that is full would stop it.
      createInterface({ input: this.child.stdout }).on("line", (line) => {
        last = line;
        if (!line.includes('"serving"')) return;
        clearTimeout(late);
        serving();
      });
      this.child.on("close", () => {
        clearTimeout(late);
        failed(new Error(last));
      });
    });
  }

  /** Makes so many calls; gives the microseconds of processor time that one of them took. */
  async measure(path, count) {
    const before = processorTime(this.workerd);
    let begun = 0;
    const client = async () => {
      while (begun < count) {
        begun += 1;
        await this.#call(path(this, begun));
      }
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, client));
    return (processorTime(this.workerd) - before) / count;
  }

  #call(path) {
    return new Promise((done, failed) => {
      const headers = { Authorization: `Bearer ${this.key}` };
      const request = http.get(`${this.url}${path}`, { agent: this.agent, headers }, (response) => {
        response.resume();
        response.on("error", failed);
        response.on("end", () => {
          if (response.statusCode === 200) done();
          else failed(new Error(`${path}: ${response.statusCode}`));
        });
      });
      request.on("error", failed);
    });
  }

  async stop() {
    this.child.kill("SIGTERM");
    await this.ended;
    this.agent?.destroy();
    await rm(this.folder, { recursive: true });
  }
}

/** The processor time of a process so far, its own and the system's for it, in microseconds. */
function processorTime(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name of the program, in brackets, may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [user, system] = [fields[11], fields[12]].map(Number);
  return (user + system) * TICK_US;
}

const here = fileURLToPath(new URL("../../", import.meta.url));
const servers = [];
try {
  for (const checkout of [here, resolve(options.against)]) {
    servers.push(await Server.start(checkout));
  }
  const rows = [];
  for (const [name, path] of CALLS) {
    for (const server of servers) await server.measure(path, warmUp);
    const costs = servers.map(() => []);
    for (let round = 1; round <= rounds; round += 1) {
      for (const [at, server] of servers.entries()) {
        costs[at].push(await server.measure(path, calls));
      }
      progress(`${name}, round ${round} of ${rounds}`);
    }
    const ratios = costs[0].map((cost, round) => cost / costs[1][round]);
    rows.push([name, ...costs.map((one) => number(median(one), 0)), number(median(ratios))]);
  }
  console.log(
    `Processor time of workerd for a call, in µs: the median of ${rounds} rounds of ` +
      `${calls.toLocaleString("en")} calls, in turn.\n`,
  );
  printTable(["call", "here", "there", "here / there"], rows);
} finally {
  await Promise.all(servers.map((server) => server.stop()));
}
