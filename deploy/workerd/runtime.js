// workerd as a child process, and requests to the socket that only its parent can reach.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import workerd from "workerd";

const LOOK_AGAIN_MS = 20;

export class Runtime {
  /**
   * Starts workerd and waits until it answers. `configure` makes its configuration, given the path
   * of the socket; `env` is its environment, `inherit` descriptors that it keeps open.
   * `onError` gets each line that workerd itself writes of what goes wrong.
   */
  static async start(configure, { env, inherit = [], onError = () => {} }) {
    // Others of this machine may not enter it.
    const folder = mkdtempSync(join(tmpdir(), "mess-"));
    const socket = join(folder, "socket");
    const file = join(folder, "config.capnp");
    writeFileSync(file, configure(socket));
    const child = spawn(workerd.default, ["serve", "-I", "/", file], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "inherit", "pipe", ...inherit],
    });
    const runtime = new Runtime(child, folder, socket, onError);
    while (!(await runtime.isUp())) {
      if (runtime.hasExited) throw new Error(runtime.lastError ?? "workerd does not start");
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
    return runtime;
  }

  constructor(child, folder, socket, onError) {
    this.child = child;
    this.socket = socket;
    this.hasExited = false;
    const lines = createInterface({ input: child.stderr });
    lines.on("line", (line) => {
      this.lastError ??= line;
      onError(line);
    });
    /** The code or signal with which it ended. */
    this.exited = new Promise((resolve) => {
      const end = (reason) => {
        this.hasExited = true;
        rmSync(folder, { recursive: true, force: true });
        resolve(reason);
      };
      child.on("error", (error) => {
        this.lastError ??= error.message;
        end(error.message);
      });
      child.on("close", (code, signal) => end(code ?? signal));
    });
  }

  async isUp() {
    try {
      await this.get("/");
      return true;
    } catch {
      return false;
    }
  }

  /** The answer to a request to the socket, as {status, body}. */
  get(path) {
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
    });
  }

  /** Ends workerd: it takes no more connections and finishes the requests that it has. */
  async stop(within = 25_000) {
    this.child.kill("SIGTERM");
    const late = setTimeout(() => this.child.kill("SIGKILL"), within);
    await this.exited;
    clearTimeout(late);
  }
}
