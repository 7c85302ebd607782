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
 * Runs a command that does not hear of Ctrl-C, nor of a terminal that is closed: both reach all
 * processes at once, and it is for this one to say when workerd stops, and how.
 */
const UNDISTURBED = 'trap "" INT HUP; exec "$@"';

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
    this.child = spawn("/bin/sh", ["-c", UNDISTURBED, "sh", ...command], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "inherit", "pipe", ...inherit],
    });
    // Not left behind when this process ends, but for a signal that it cannot handle.
    const kill = () => {
      this.child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    };
    process.on("exit", kill);
    this.hasExited = false;
    createInterface({ input: this.child.stderr }).on("line", (line) => {
      this.firstError ??= line;
      onError(line);
    });
    /** The code or signal with which it ended. */
    this.exited = new Promise((resolve) => {
      const end = (reason) => {
        this.hasExited = true;
        process.off("exit", kill);
        rmSync(folder, { recursive: true, force: true });
        resolve(reason);
      };
      this.child.on("error", (error) => {
        this.firstError ??= error.message;
        end(error.message);
      });
      this.child.on("close", (code, signal) => end(code ?? signal));
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
