// Starts the built Worker in workerd through Miniflare, with a local R2 bucket, and speaks HTTP
// to it as a client would.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Miniflare } from "miniflare";
import { Outside } from "./outside.js";

/** Where the build lies, and the date of the runtime's behaviour as in wrangler.toml. */
export const BUILD = new URL("../../build/", import.meta.url);
export const COMPATIBILITY_DATE = "2026-11-17";
const BUCKET = "MESS_BUCKET";

/** Milliseconds of a minute and an hour, for scheduled times. */
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

async function worker(name, folder, vars, outside) {
  const contents = {
    "index.js": {
      type: "esm",
      contents: await readFile(new URL("index.js", folder), "utf8"),
    },
    "index_bg.wasm": {
      type: "wasm",
      contents: await readFile(new URL("index_bg.wasm", folder)),
    },
  };
  const env = { [BUCKET]: { type: "r2", name: "mess-exchange" } };
  for (const [key, value] of Object.entries(vars)) {
    env[key] = { type: "text", value };
  }
  return {
    config: {
      name,
      compatibilityDate: COMPATIBILITY_DATE,
      manifest: { mainModule: "index.js", modules: contents },
      env,
      triggers: [{ type: "scheduled", schedule: "* * * * *" }],
    },
    dev: { outboundService: outside.service },
  };
}

/**
 * A running exchange. `vars` are its settings, `state` the folder of its bucket (in memory
 * when there is none), `outside` what its requests to others reach.
 */
export async function startExchange({ vars = {}, state, outside = new Outside() } = {}) {
  const logs = [];
  const miniflare = new Miniflare({
    resourcePersistencePath: state,
    unsafeTriggerHandlers: true,
    handleStructuredLogs: (line) => logs.push(line),
    workers: [
      await worker("exchange", BUILD, vars, outside),
      await worker("inspect", new URL("inspect/", BUILD), vars, outside),
    ],
  });
  const url = await miniflare.ready;
  return new Exchange(miniflare, url, logs);
}

class Exchange {
  constructor(miniflare, url, logs) {
    this.miniflare = miniflare;
    this.url = url;
    this.logs = logs;
  }

  stop() {
    return this.miniflare.dispose();
  }

  /** The bucket itself, past the Worker. */
  bucket() {
    return this.miniflare.getR2Bucket(BUCKET, "exchange");
  }

  /** All objects of the bucket below `prefix`, as text by key. */
  async objects(prefix = "") {
    const bucket = await this.bucket();
    const objects = new Map();
    let cursor;
    do {
      const page = await bucket.list({ prefix, cursor });
      for (const { key } of page.objects) {
        const object = await bucket.get(key);
        if (object) objects.set(key, await object.text());
      }
      cursor = page.truncated ? page.cursor : undefined;
    } while (cursor);
    return objects;
  }

  /** The lines of the event log. */
  async log() {
    const lines = [];
    for (const text of (await this.objects("events/")).values()) {
      for (const line of text.split("\n").filter(Boolean)) lines.push(JSON.parse(line));
    }
    return lines;
  }

  /** Runs the scheduled handler as if it were `at` (milliseconds), to its end. */
  async tick(at = Date.now()) {
    const exchange = await this.miniflare.getWorker("exchange");
    await exchange.scheduled({ cron: "* * * * *", scheduledTime: new Date(at) });
  }

  /** Waits until `check` holds; what a request leaves for after its answer takes a moment. */
  async eventually(check, what) {
    for (let waited = 0; waited < 5_000; waited += 20) {
      if (await check()) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.fail(`${what} did not come to be`);
  }

  /** The open obligations, but for the deletion of old attempts. */
  async owed() {
    const all = [...(await this.objects("due/")).values()].map((text) => JSON.parse(text));
    return all.filter((obligation) => obligation.kind !== "sweep");
  }

  /** Waits until no obligation is open. */
  async rest() {
    await this.eventually(async () => (await this.owed()).length === 0, "rest");
  }

  /** Fails if the auditor finds anything, as of `at`. */
  async assertSound(at = Date.now()) {
    const report = await this.inspect(`/audit?now=${at}`);
    assert.deepEqual(report.problems, []);
    return report;
  }

  /** The inspection Worker's answer. */
  async inspect(path) {
    const inspector = await this.miniflare.getWorker("inspect");
    const response = await inspector.fetch(`http://inspect${path}`);
    assert.equal(response.status, 200, await response.clone().text());
    return response.json();
  }

  /** A request as it stands; `path` may begin with a slash for one outside an exchange. */
  fetch(path, init = {}) {
    return fetch(new URL(path, new URL("/api/v1/exchanges/", this.url)), init);
  }

  /** Registers an executor and returns a client with its key. */
  async register(executorId, { exchange = "home", ...profile } = {}) {
    const answer = await this.client(undefined, exchange).post("register", {
      executor_id: executorId,
      ...profile,
    });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    return this.client(answer.body.api_key, exchange);
  }

  client(key, exchange = "home") {
    return new Client(this, key, exchange);
  }
}

/** One who calls the exchange with a key. */
class Client {
  constructor(server, key, exchange) {
    this.server = server;
    this.key = key;
    this.exchange = exchange;
  }

  /** Sends a request below the exchange; the answer is {status, headers, body}. */
  async send(method, path, body, headers = {}) {
    const init = { method, headers: { ...headers } };
    if (this.key) init.headers.Authorization = `Bearer ${this.key}`;
    if (body !== undefined) {
      init.headers["Content-Type"] ??= "application/json";
      const raw = typeof body === "string" || body instanceof Uint8Array;
      init.body = raw ? body : JSON.stringify(body);
    }
    const response = await this.server.fetch(`${this.exchange}/${path}`, init);
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: text ? JSON.parse(text) : undefined,
    };
  }

  get(path, headers) {
    return this.send("GET", path, undefined, headers);
  }

  post(path, body, headers) {
    return this.send("POST", path, body, headers);
  }

  patch(path, body, headers) {
    return this.send("PATCH", path, body, headers);
  }

  /** Posts a request and returns its ref. */
  async ask(intent, more = {}) {
    const answer = await this.post("requests", { intent, ...more });
    assert.equal(answer.status, 201, answer.text);
    return answer.body.ref;
  }

  /** The refs on all pages of a list. */
  async list(query = "") {
    const refs = [];
    let cursor;
    do {
      const parameters = new URLSearchParams(query);
      if (cursor) parameters.set("cursor", cursor);
      const answer = await this.get(`requests?${parameters}`);
      assert.equal(answer.status, 200, answer.text);
      refs.push(...answer.body.threads.map((thread) => thread.ref));
      cursor = answer.body.next_cursor;
    } while (cursor);
    return refs;
  }
}
