// The calls that the benchmark makes, over HTTP alone, and how they are timed: one client after
// another for latency, several at once for requests a second, all servers in turn.

import { readFileSync } from "node:fs";
import http from "node:http";

export const CLIENTS = 8;

/**
 * How much is measured of each call on each server, unless its time runs out before: twice the
 * samples of those that only read. The first dozens of calls are slower: V8 has yet to optimise
 * what they run.
 */
export const FULL = { warmUp: 60, rounds: 8, samples: 24, loadRounds: 4, loadSamples: 64 };
export const QUICK = { warmUp: 20, rounds: 4, samples: 12, loadRounds: 2, loadSamples: 24 };

const agent = new http.Agent({ keepAlive: true, maxSockets: CLIENTS });

/** A server with the key of one of its executors, and the threads that the calls are about. */
export class Target {
  constructor(name, url, { exchange = "home", key, refs = [] } = {}) {
    Object.assign(this, { name, url, exchange, key });
    /** Threads that are only read, threads to be claimed, threads that were. */
    this.refs = refs;
    this.posted = [];
    this.claimed = [];
    this.turn = 0;
  }

  /** Sends a request; the answer is {status, text}. `path` is one below the exchange. */
  send({ method, path, body }) {
    const whole = path.startsWith("/") ? path : `/api/v1/exchanges/${this.exchange}/${path}`;
    const headers = {};
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    if (body) headers["Content-Type"] = "application/json";
    return new Promise((resolve, reject) => {
      const request = http.request(new URL(whole, this.url), { method, headers, agent });
      request.on("error", reject);
      request.on("response", (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk) => {
          text += chunk;
        });
        response.on("end", () => resolve({ status: response.statusCode, text }));
        response.on("error", reject);
      });
      request.end(body && JSON.stringify(body));
    });
  }

  /** The same, of an answer that says yes. */
  async demand(request) {
    const answer = await this.send(request);
    if (answer.status < 300) return answer;
    throw new Error(`${request.method} ${request.path}: ${answer.status} ${answer.text}`);
  }

  async register(id) {
    const { text } = await this.demand(REGISTER.request(this, id));
    return JSON.parse(text).api_key;
  }

  /** Posts requests, with several clients, up to `count` threads in all or until `until`. */
  async fill(count, until) {
    let number = this.refs.length;
    const client = async () => {
      while (number < count && Date.now() < until) {
        number += 1;
        const answer = await this.demand(POST.request());
        this.refs.push(refOf(answer));
        if (this.refs.length % 1000 === 0) progress(`${this.refs.length} threads`);
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
  }
}

/** Says on stderr how far the benchmark is, and after how many seconds. */
export function progress(text) {
  process.stderr.write(`bench, ${Math.round(performance.now() / 1000)} s: ${text}\n`);
}

const get = (path) => ({ method: "GET", path });

export const POST = {
  writes: true,
  name: "POST /requests",
  request: () => ({
    method: "POST",
    path: "requests",
    body: {
      intent: "Check that the front door is locked",
      context: ["The lock reported no state for an hour"],
      priority: "normal",
      response_hint: ["text", "image"],
    },
  }),
  after: (target, answer) => target.posted.push(refOf(answer)),
};

export const CLAIM = {
  writes: true,
  name: "PATCH, status claimed",
  request: (target, ref = target.posted.shift()) =>
    ref && { method: "PATCH", path: `requests/${ref}`, body: { status: "claimed" } },
  after: (target, _answer, { path }) => target.claimed.push(path.split("/").at(-1)),
};

export const MESSAGE = {
  writes: true,
  name: "PATCH, a message",
  request: (target, ref = next(target, target.claimed)) =>
    ref && {
      method: "PATCH",
      path: `requests/${ref}`,
      body: { mess: [{ note: { content: [{ text: "It is locked: I turned the key." }] } }] },
    },
};

export const REGISTER = {
  writes: true,
  name: "POST /register",
  request: (_target, id = `bench-${crypto.randomUUID()}`) => ({
    method: "POST",
    path: "register",
    body: { executor_id: id, display_name: id, capabilities: ["take_photo", "open_door"] },
  }),
};

/** In this order: what only reads first, since what writes adds threads and executors. */
export const CALLS = [
  { name: "GET /health", request: () => get("/health") },
  {
    name: "GET /requests/{ref}",
    request: (target, ref = next(target, target.refs)) => ref && get(`requests/${ref}`),
  },
  { name: "GET /requests", request: () => get("requests") },
  { name: "GET /requests?status=pending", request: () => get("requests?status=pending") },
  { name: "GET /executors", request: () => get("executors") },
  POST,
  CLAIM,
  MESSAGE,
  REGISTER,
];

/** Another one of `list` at each call; 37 apart, so that neighbours in the bucket are not. */
function next(target, list) {
  target.turn += 37;
  return list[target.turn % list.length];
}

function refOf({ text }) {
  return JSON.parse(text).ref;
}

/**
 * Measures one call on all targets, block by block in turn, so that a change of the machine's
 * mood meets all of them. `until` bounds it: whatever was begun by then, there are two rounds of
 * each kind.
 *
 * The result has for each target the latencies of each round in milliseconds, and the requests a
 * second of each round.
 */
export async function measure(call, targets, plan, until) {
  const results = targets.map(() => ({ latencies: [], rates: [] }));
  const samples = call.writes ? plan.samples : 2 * plan.samples;
  for (const target of targets) await latencies(call, target, plan.warmUp);
  const inTurn = async (rounds, block) => {
    for (let round = 0; round < rounds; round += 1) {
      if (round >= 2 && Date.now() > until) return;
      const order = [...targets.keys()];
      if (round % 2 === 1) order.reverse();
      for (const at of order) {
        await block(targets[at], results[at]);
        // What the last calls left for after their answers is not the next server's burden.
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  };
  await inTurn(plan.rounds, async (target, result) => {
    const measured = await latencies(call, target, samples);
    if (measured.length > 0) result.latencies.push(measured);
  });
  await inTurn(plan.loadRounds, async (target, result) => {
    const measured = await rate(call, target, plan.loadSamples);
    if (measured > 0) result.rates.push(measured);
  });
  return results;
}

/** The latencies of `count` calls one after another; fewer when there is nothing left to call. */
async function latencies(call, target, count) {
  const measured = [];
  for (let at = 0; at < count; at += 1) {
    const request = call.request(target);
    if (!request) break;
    const started = performance.now();
    const answer = await target.demand(request);
    measured.push(performance.now() - started);
    call.after?.(target, answer, request);
  }
  return measured;
}

/** Requests a second of several clients that make `count` calls in all. */
async function rate(call, target, count) {
  let begun = 0;
  let done = 0;
  const client = async () => {
    while (begun < count) {
      begun += 1;
      const request = call.request(target);
      if (!request) return;
      const answer = await target.demand(request);
      call.after?.(target, answer, request);
      done += 1;
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: CLIENTS }, client));
  return (done / (performance.now() - started)) * 1000;
}

export function median(values) {
  return quantile(values, 0.5);
}

/** The value below which the share `q` of the values lies; NaN when there are none. */
export function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

/** The process of workerd below the start script, which runs it in a shell. */
export function workerdOf(pid) {
  if (readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "workerd") return Number(pid);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  for (const child of children.split(" ").filter(Boolean)) {
    const found = workerdOf(child);
    if (found) return found;
  }
  return undefined;
}
