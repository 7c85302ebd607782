// A running exchange, spoken to over HTTP as a client would. Where it runs is the tests' backend,
// MESS_BACKEND: `r2` (in Miniflare, as on Cloudflare), `filesystem` or `s3` (self-hosted).

import assert from "node:assert/strict";

export const BACKEND = process.env.MESS_BACKEND || "r2";
const MODULES = { r2: "./cloudflare.js", filesystem: "./selfhosted.js", s3: "./selfhosted.js" };

/** Milliseconds of a minute and an hour, for scheduled times. */
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

/**
 * A running exchange. `vars` are its settings, `state` the folder of its bucket (one of its own
 * when there is none), `outside` what its requests to others reach (with R2 only).
 */
export async function startExchange(options = {}) {
  const { start } = await import(MODULES[BACKEND]);
  return start(options);
}

/** What is the same wherever it runs. */
export class Exchange {
  /** The address, and the lines that it logged, as {level, message}. */
  constructor(url, logs) {
    this.url = url;
    this.logs = logs;
  }

  /** The lines of the event log. */
  async log() {
    const lines = [];
    for (const text of (await this.objects("events/")).values()) {
      for (const line of text.split("\n").filter(Boolean)) lines.push(JSON.parse(line));
    }
    return lines;
  }

  /** Waits until `check` holds; what a request leaves for after its answer takes a moment. */
  async eventually(check, what) {
    for (let waited = 0; waited < 5_000; waited += 20) {
      if (await check()) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.fail(`${what} did not come to be`);
  }

  /**
   * The open obligations, but for the deletion of old attempts, for timers, and for the last look at what
   * a removed member left, which comes after two minutes.
   */
  async owed() {
    const all = [...(await this.objects("due/")).values()].map((text) => JSON.parse(text));
    return all.filter(({ kind }) => !["sweep", "timer", "removal"].includes(kind));
  }

  /** Waits until no obligation is open. */
  async rest() {
    await this.eventually(async () => (await this.owed()).length === 0, "rest");
  }

  /** Fails if the auditor finds anything, as of `at`. */
  async assertSound(at = Date.now()) {
    const report = await this.audit(at);
    assert.deepEqual(report.problems, []);
    return report;
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
