// workerd as a child process, and requests to the socket that only its parent can reach.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import workerd from "workerd";

const LOOK_AGAIN_MS = 20;
const UP_WITHIN_MS = 60_000;
/** When workerd is ended by force: a little before those who wait for us lose patience. */
const STOP_WITHIN_MS = 25_000;
/**
 * Runs a command once a line comes on its standard input. The command does not hear of Ctrl-C, nor of
 * a terminal that is closed: both reach all processes at once, and it is for this one to say when
 * workerd stops, and how. It may open as many files as anyone lets it: a connection takes two, and
 * workerd ends when it has no more. Where that cannot be raised, it stays what it is.
 */
const RUN =
  'trap "" INT HUP; ulimit -S -n "$(ulimit -H -n)" 2>/dev/null; read -r _ && exec "$@" </dev/null';
/** Kills the process of that number when its standard input ends before a line has come. */
const WATCH = 'trap "" INT HUP TERM; read -r _ || kill -9 "$1"';

/** Starts a process with a script for `sh` and its arguments. */
function shell(script, args, options) {
  const child = spawn("/bin/sh", ["-c", script, "sh", ...args], options);
  child.on("error", () => {});
  if (!child.pid) throw new Error("this machine lets no more processes start");
  // It may end without having read what it is told.
  child.stdin.on("error", () => {});
  return child;
}

export class Runtime {
  /**
   * Starts workerd. `configure` makes its configuration, given the path of the socket; `env` is its
   * environment, `inherit` descriptors that it keeps open, `onError` gets each line that workerd
   * itself writes of what goes wrong.
   */
  constructor(configure, { env, inherit = [], onError = () => {} }) {
    // Others of this machine may not enter it.
    const folder = mkdtempSync(join(tmpdir(), "mess-"));
    this.socket = join(folder, "socket");
    const file = join(folder, "config.capnp");
    writeFileSync(file, configure(this.socket));
    const command = [workerd.default, "serve", "-I", "/", file];
    const options = {
      env: { ...process.env, ...env },
      stdio: ["pipe", "inherit", "pipe", ...inherit],
    };
    let watch;
    try {
      this.child = shell(RUN, command, options);
      watch = shell(WATCH, [String(this.child.pid)], { stdio: ["pipe", "ignore", "ignore"] });
    } catch (error) {
      this.child?.stdin.destroy();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
    // From here on it does not outlive this process, even if this is killed by a signal that it
    // cannot handle: the other one reads the end of its pipe then.
    this.child.stdin.end("\n");
    const kill = () => {
      this.child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    };
    process.on("exit", kill);
    this.hasExited = false;
    createInterface({ input: this.child.stderr }).on("line", (line) => {
      // Of each failure workerd writes a second line, with addresses in its own code.
      if (line.startsWith("stack: ")) return;
      this.firstError ??= line;
      this.lastError = line;
      onError(line);
    });
    /** How it ended, in a few words. */
    this.exited = new Promise((resolve) => {
      // From here on its number may be another's.
      this.child.on("exit", () => watch.stdin.end("\n"));
      this.child.on("close", (code, signal) => {
        this.hasExited = true;
        process.off("exit", kill);
        rmSync(folder, { recursive: true, force: true });
        resolve(signal ?? `status ${code}${this.lastError ? `: ${this.lastError}` : ""}`);
      });
    });
  }

  /** Waits until it answers; throws what it said if it does not come to that. */
  async untilUp() {
    const until = Date.now() + UP_WITHIN_MS;
    while (!(await this.isUp())) {
      if (this.hasExited) throw new Error(this.firstError ?? "it ended at once");
      if (Date.now() > until) throw new Error("it does not answer");
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }

  async isUp() {
    try {
      await this.get("/", UP_WITHIN_MS);
      return true;
    } catch {
      return false;
    }
  }

  /** The answer to a request to the socket, as {status, body}; `within` milliseconds, if given. */
  get(path, within) {
    return new Promise((resolve, reject) => {
      const request = http.get({ socketPath: this.socket, path, agent: false }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk) => {
          text += chunk;
        });
        response.on("error", reject);
        response.on("end", () => {
          try {
            resolve({ status: response.statusCode, body: JSON.parse(text) });
          } catch {
            reject(new Error(`an answer that is no JSON, with status ${response.statusCode}`));
          }
        });
      });
      request.on("error", reject);
      if (within) {
        const late = () => request.destroy(new Error(`no answer within ${within / 1_000} s`));
        const timer = setTimeout(late, within);
        request.on("close", () => clearTimeout(timer));
      }
    });
  }

  /** Ends workerd: it takes no more connections and finishes the requests that it has. */
  async stop() {
    this.child.kill("SIGTERM");
    const late = setTimeout(() => this.child.kill("SIGKILL"), STOP_WITHIN_MS);
    await this.exited;
    clearTimeout(late);
  }
}
