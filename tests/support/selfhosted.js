// The exchange as it runs on a machine of one's own: the start script, workerd under it, and a
// bucket in a directory or in an S3 server.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { globSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { BACKEND, Exchange } from "./exchange.js";
import { freePort, startMiniflareS3 } from "./s3.js";

export const START = fileURLToPath(new URL("../../selfhost/start.js", import.meta.url));
const MESS = fileURLToPath(new URL("../../selfhost/mess.js", import.meta.url));

/** See startExchange. */
export async function start({ vars = {}, state }) {
  const store = await (BACKEND === "s3" ? startMiniflareS3(state) : openDirectory(state));
  try {
    return await SelfHosted.start(store, vars);
  } catch (error) {
    await store.stop();
    throw error;
  }
}

/** The bucket in the folder `state`, or in one that is removed at the end. */
export async function openDirectory(state) {
  const folder = state ?? (await mkdtemp(join(tmpdir(), "mess-data-")));
  const path = (key) => join(folder, key);
  const store = {
    folder,
    env: { STORAGE_TYPE: "filesystem", STORAGE_PATH: folder },
    /** Whether files were changed past the exchange, which it does not see before it starts again. */
    isStale: false,
    bucket: () => ({
      get: async (key) => ({ text: () => readFile(path(key), "utf8") }),
      async put(key, text) {
        store.isStale = true;
        await mkdir(dirname(path(key)), { recursive: true });
        await writeFile(path(key), text);
      },
      async delete(key) {
        store.isStale = true;
        await rm(path(key), { force: true });
      },
    }),
    objects: (prefix = "") => readFolder(folder, prefix),
    stop: async () => state ?? (await rm(folder, { recursive: true })),
  };
  return store;
}

/** All files below a folder that an exchange writes, by key. */
async function readFolder(folder, prefix) {
  const objects = new Map();
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const key = path.slice(folder.length + 1);
    if (!entry.isFile() || entry.name.startsWith(".") || !key.startsWith(prefix)) continue;
    try {
      objects.set(key, await readFile(path, "utf8"));
    } catch (error) {
      // Deleted since it was listed.
      if (error.code !== "ENOENT") throw error;
    }
  }
  return new Map([...objects].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The settings of a bucket as those of the one to copy to. */
export function asTarget(env) {
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [`TO_${name}`, value]));
}

/** Runs a command of `mess`; gives {code, stdout, stderr}. */
export async function mess(args, env) {
  const child = spawn(process.execPath, [MESS, ...args], { env: { ...process.env, ...env } });
  return collect(child);
}

/** Waits for the end of a process, and what it wrote. */
export async function collect(child) {
  const output = { stdout: "", stderr: "" };
  for (const name of Object.keys(output)) {
    child[name].setEncoding("utf8").on("data", (text) => {
      output[name] += text;
    });
  }
  const end = await new Promise((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal }));
  });
  return { ...end, ...output };
}

/**
 * Starts the start script as a process of its own, with nothing in its environment but `env`;
 * `prepare` is what a shell does before.
 */
export function spawnStart(env, options = {}, script = START, prepare = ":") {
  const { PATH, HOME } = process.env;
  const command = ["-c", `${prepare}; exec "$@"`, "sh", process.execPath, script];
  return spawn("/bin/sh", command, { env: { PATH, HOME, ...env }, ...options });
}

/** The processes of this machine whose command line has `text`, as {pid, parent, command}. */
export function processes(text = "") {
  const lines = execFileSync("ps", ["-A", "-ww", "-o", "pid=,ppid=,stat=,args="], {
    encoding: "utf8",
  });
  const all = lines.split("\n").map((line) => /^ *(\d+) +(\d+) +(\S+) +(.*)$/.exec(line) ?? []);
  return all
    .filter(([, , , stat, command]) => command?.includes(text) && !stat.startsWith("Z"))
    .map(([, pid, parent, , command]) => ({ pid: Number(pid), parent: Number(parent), command }));
}

export class SelfHosted extends Exchange {
  storage = BACKEND;

  /** On a store of its own, or on one that others use too; `prepare` as for spawnStart. */
  static async start(store, vars = {}, prepare = undefined) {
    const port = await freePort();
    const exchange = new SelfHosted(`http://127.0.0.1:${port}`, []);
    // Where the socket for maintenance is to be found.
    const temporary = await mkdtemp(join(tmpdir(), "mess-test-"));
    const env = { ...vars, ...store.env, PORT: String(port), TMPDIR: temporary };
    const storage = store.env.STORAGE_TYPE;
    Object.assign(exchange, { store, env, temporary, prepare, storage });
    try {
      await exchange.begin();
    } catch (error) {
      await rm(temporary, { recursive: true });
      throw error;
    }
    return exchange;
  }

  async begin() {
    this.store.isStale = false;
    // A group of its own, so that all of it can be killed at once.
    const options = { detached: true, stdio: ["ignore", "pipe", "inherit"] };
    this.child = spawnStart(this.env, options, START, this.prepare);
    const group = -this.child.pid;
    const killGroup = () => {
      try {
        process.kill(group, "SIGKILL");
      } catch {
        // Nobody of it is left.
      }
    };
    this.killGroup = killGroup;
    // Not left behind by a test that fails.
    process.on("exit", killGroup);
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code) => {
        process.off("exit", killGroup);
        resolve(code);
      });
    });
    const lines = createInterface({ input: this.child.stdout });
    const serving = new Promise((resolve, reject) => {
      lines.on("line", (message) => {
        this.logs.push({ level: "log", message });
        if (message.includes('"serving"')) resolve();
      });
      const refused = () => new Error(this.logs.at(-1)?.message ?? "it ended");
      this.child.on("close", () => reject(refused()));
    });
    await serving;
  }

  /** The number of the process of workerd; none between a death and the next start. */
  get runtime() {
    return processes(this.temporary).find(({ parent }) => parent === this.child.pid)?.pid;
  }

  /** As a power cut of the processes: nothing is finished. */
  async kill() {
    this.killGroup();
    await this.ended;
    for (const left of globSync(join(this.temporary, "mess-*")))
      await rm(left, { recursive: true });
  }

  async end() {
    // Where the start script is dead, what it started may yet live.
    const isDead = this.child.exitCode !== null || this.child.signalCode !== null;
    if (isDead) this.killGroup();
    else this.child.kill("SIGTERM");
    await this.ended;
  }

  async stop() {
    await this.end();
    await rm(this.temporary, { recursive: true });
    await this.store.stop();
  }

  async restartIfStale() {
    if (!this.store.isStale) return;
    await this.end();
    await this.begin();
  }

  bucket() {
    return this.store.bucket();
  }

  objects(prefix) {
    return this.store.objects(prefix);
  }

  async fetch(path, init) {
    await this.restartIfStale();
    return super.fetch(path, init);
  }

  /** Asks for the maintenance as if it were `at` (milliseconds). */
  async tick(at = Date.now()) {
    await this.restartIfStale();
    const [socketPath] = globSync(join(this.temporary, "mess-*", "socket"));
    const answer = await new Promise((resolve, reject) => {
      const request = http.get({ socketPath, path: `/tick?now=${at}`, agent: false }, resolve);
      request.on("error", reject);
    });
    answer.resume();
    assert.equal(answer.statusCode, 200);
  }

  /** The auditor's report; of a directory, which has but one process, that on a copy. */
  async audit(at) {
    const copy = this.store.folder && (await mkdtemp(join(tmpdir(), "mess-copy-")));
    const env = { ...this.store.env };
    if (copy) {
      await cp(this.store.folder, copy, { recursive: true });
      env.STORAGE_PATH = copy;
    }
    try {
      const at8601 = new Date(at).toISOString();
      const { stdout, stderr } = await mess(["audit", "--json", "--at", at8601], env);
      assert.match(stderr, /^mess: audit of [^\n]*\n$/);
      return JSON.parse(stdout);
    } finally {
      if (copy) await rm(copy, { recursive: true });
    }
  }
}
