// The scheduled handler in workerd: what a crash left is completed or discarded, and a bucket
// of another server is imported.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";
import { HOUR, MINUTE, startExchange } from "../support/exchange.js";

async function withExchange(work) {
  const exchange = await startExchange();
  try {
    await work(exchange);
  } finally {
    await exchange.stop();
  }
}

/** The state of a bucket as it was right after the commit, before anything else was written. */
async function crashAfterCommit(exchange, ref, version) {
  const bucket = await exchange.bucket();
  const thread = JSON.parse(await (await bucket.get(`threads/exchange=home/${ref}.json`)).text());
  const { batch_id, ts } = thread.events.at(-1);
  assert.equal(thread.version, version);
  for (const key of (await exchange.objects("index/")).keys()) await bucket.delete(key);
  const day = ts.slice(0, 10).replaceAll("-", "/");
  await bucket.delete(`events/exchange=home/${day}/${batch_id}.jsonl`);
  const opened_at = new Date().toISOString();
  const due = String(Date.parse(opened_at) + MINUTE).padStart(13, "0");
  const owed = { id: batch_id, opened_at, kind: "thread", exchange_id: "home", ref };
  await bucket.put(`due/${due}-${batch_id}.json`, JSON.stringify(owed));
}

test("the tick completes what was committed, when its time has come", () =>
  withExchange(async (exchange) => {
    const agent = await exchange.register("agent");
    const ref = await agent.ask("Check front door");
    await agent.patch(`requests/${ref}`, { status: "claimed" });
    await exchange.rest();
    await crashAfterCommit(exchange, ref, 2);

    await exchange.tick();
    assert.deepEqual(await agent.list(), [], "not before its time");
    await exchange.tick(Date.now() + 2 * MINUTE);
    assert.deepEqual(await agent.list("status=claimed"), [ref]);
    const changes = (await exchange.log()).filter((event) => event.event_type === "status_changed");
    assert.equal(changes.length, 1);
    await exchange.assertSound(Date.now() + 2 * MINUTE);
    await exchange.tick(Date.now() + HOUR + MINUTE);
    await exchange.rest();
    await exchange.assertSound(Date.now() + HOUR + MINUTE);
  }));

test("the tick discards what was never committed, after an hour", () =>
  withExchange(async (exchange) => {
    const agent = await exchange.register("agent");
    const ref = await agent.ask("Check front door");
    await exchange.rest();
    const bucket = await exchange.bucket();
    const id = randomUUID();
    const opened = Date.now();
    const owed = {
      id,
      opened_at: new Date(opened).toISOString(),
      kind: "thread",
      exchange_id: "home",
      ref,
    };
    await bucket.put(
      `due/${String(opened + MINUTE).padStart(13, "0")}-${id}.json`,
      JSON.stringify(owed),
    );
    for (const minutes of [2, 5, 11, 23, 47]) await exchange.tick(opened + minutes * MINUTE);
    assert.equal((await exchange.objects("due/")).size, 1);
    await exchange.tick(opened + HOUR + MINUTE);
    assert.equal((await exchange.objects("due/")).size, 0);
    await exchange.assertSound(opened + HOUR + MINUTE);
  }));

const OLD_KEY = "mess_home_0123456789abcdef0123456789abcdef";

/** Fills a bucket as another MESS server does: one event per object, keys in the older form. */
async function plantForeignBucket(exchange, threads) {
  const bucket = await exchange.bucket();
  const puts = [];
  const event = (ts, ref, event_type, payload) => {
    const event_id = randomUUID();
    const line = {
      event_id,
      ts,
      exchange_id: "home",
      thread_ref: ref,
      event_type,
      actor_id: "phone",
      payload,
    };
    const day = ts.slice(0, 10).replaceAll("-", "/");
    puts.push(
      bucket.put(`events/exchange=home/${day}/${event_id}.jsonl`, `${JSON.stringify(line)}\n`),
    );
  };
  const executor = {
    id: "phone",
    display_name: "Phone",
    capabilities: [],
    notifications: [],
    hooks: {},
    preferences: {},
    api_key_hash: createHash("sha256").update(OLD_KEY).digest("base64"),
    created_at: "2025-01-01T00:00:00.000Z",
    last_seen: "2025-01-01T00:00:00.000Z",
  };
  puts.push(bucket.put("executors/exchange=home/phone.json", JSON.stringify(executor, null, 2)));
  event("2025-01-01T00:00:00.000Z", null, "executor_registered", {
    display_name: "Phone",
    capabilities: [],
  });
  for (let n = 0; n < threads; n++) {
    const ref = `2025-01-02-${String(n).padStart(4, "0")}`;
    const ts = new Date(Date.UTC(2025, 0, 2, 0, 0, n)).toISOString();
    const later = new Date(Date.UTC(2025, 0, 3, 0, 0, n)).toISOString();
    event(ts, ref, "thread_created", {
      intent: `Errand ${n}`,
      context: [],
      priority: "normal",
      requestor_id: "phone",
      response_hint: [],
    });
    event(ts, ref, "message_added", { mess: [{ request: { intent: `Errand ${n}` } }] });
    event(later, ref, "status_changed", {
      old_status: "pending",
      new_status: "claimed",
      executor_id: "phone",
    });
  }
  await Promise.all(puts);
}

test("a bucket of another server serves logins at once, and the rest once it is derived", () =>
  withExchange(async (exchange) => {
    await plantForeignBucket(exchange, 150);
    const phone = exchange.client(OLD_KEY);
    const ref = "2025-01-02-0007";
    const early = await phone.get(`requests/${ref}`);
    assert.equal(early.status, 503);
    assert.equal(early.body.code, "taking_over");
    assert.ok(Number(early.headers.get("Retry-After")) > 0);
    assert.equal((await phone.patch(`requests/${ref}`, { status: "completed" })).status, 503);
    const partial = await phone.get("requests");
    assert.equal(partial.status, 200);
    assert.equal(partial.body.complete, false);
    const created = await phone.ask("New while it goes on");

    const isComplete = async () => (await phone.get("requests")).body.complete === undefined;
    await exchange.eventually(isComplete, "the import");
    const { thread } = (await phone.get(`requests/${ref}`)).body;
    assert.equal(thread.intent, "Errand 7");
    assert.equal(thread.status, "claimed");
    assert.equal(thread.executor_id, "phone");
    assert.equal((await phone.list("status=claimed")).length, 150);
    assert.deepEqual(await phone.list("status=pending"), [created]);
    assert.equal((await phone.patch(`requests/${ref}`, { status: "completed" })).status, 200);
    const executors = (await phone.get("executors")).body.executors;
    assert.deepEqual(
      executors.map(({ id }) => id),
      ["phone"],
    );
    await exchange.tick(Date.now() + 2 * MINUTE);
    await exchange.rest();
    await exchange.assertSound(Date.now() + 2 * MINUTE);
  }));

test("the tick takes a bucket over when nobody calls", () =>
  withExchange(async (exchange) => {
    await plantForeignBucket(exchange, 100);
    const phone = exchange.client(OLD_KEY);
    assert.equal((await phone.get("executors")).status, 200);
    for (let minute = 2; minute < 14; minute++) await exchange.tick(Date.now() + minute * MINUTE);
    const listed = await phone.get("requests?status=claimed");
    assert.equal(listed.body.complete, undefined);
    assert.equal(listed.body.threads.length, 100);
    await exchange.assertSound(Date.now() + 14 * MINUTE);
  }));
