// The full workflow, as the README prints it: register, post, claim, complete, read.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startExchange } from "../support/exchange.js";

const JSON_TYPE = { "Content-Type": "application/json" };

test("register, post, claim, complete, read", async () => {
  const exchange = await startExchange();
  try {
    // 1. Register
    const registered = await exchange.fetch("home/register", {
      method: "POST",
      headers: JSON_TYPE,
      body: '{"executor_id": "phone", "display_name": "My Phone"}',
    });
    assert.equal(registered.status, 201);
    const { executor_id, api_key, message } = await registered.json();
    assert.equal(executor_id, "phone");
    assert.match(api_key, /^mess_home_[0-9a-f]{48}$/);
    assert.equal(typeof message, "string");
    const headers = { ...JSON_TYPE, Authorization: `Bearer ${api_key}` };

    // 2. Create request
    const created = await exchange.fetch("home/requests", {
      method: "POST",
      headers,
      body: '{"intent": "Check front door", "priority": "normal"}',
    });
    assert.equal(created.status, 201);
    const { ref, status } = await created.json();
    assert.match(ref, /^\d{4}-\d\d-\d\d-[A-Z0-9]{4,6}$/);
    assert.equal(status, "pending");
    assert.equal(created.headers.get("Location"), `/api/v1/exchanges/home/requests/${ref}`);

    // 3. Claim
    const claimed = await exchange.fetch(`home/requests/${ref}`, {
      method: "PATCH",
      headers,
      body: '{"status": "claimed"}',
    });
    assert.equal(claimed.status, 200);
    assert.deepEqual(await claimed.json(), { ref, status: "claimed", version: 2 });

    // 4. Complete with response
    const completed = await exchange.fetch(`home/requests/${ref}`, {
      method: "PATCH",
      headers,
      body: `{
        "status": "completed",
        "mess": [{"response": {"content": ["Door is locked ✓"]}}]
      }`,
    });
    assert.equal(completed.status, 200);
    assert.deepEqual(await completed.json(), { ref, status: "completed", version: 3 });

    // 5. Read
    const read = await exchange.fetch(`home/requests/${ref}`, { headers });
    assert.equal(read.status, 200);
    assert.equal(read.headers.get("ETag"), '"3"');
    const { thread } = await read.json();
    const { created_at, updated_at, messages, ...rest } = thread;
    assert.deepEqual(rest, {
      ref,
      status: "completed",
      intent: "Check front door",
      requestor_id: "phone",
      executor_id: "phone",
      priority: "normal",
      version: 3,
      outcome: {
        status: "completed",
        text: "Door is locked ✓",
        content: ["Door is locked ✓"],
        data: null,
        from: "phone",
        ts: updated_at,
      },
    });
    assert.match(created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.ok(updated_at > created_at);
    assert.deepEqual(
      messages.map(({ from, mess }) => ({ from, mess })),
      [
        {
          from: "phone",
          mess: [{ request: { intent: "Check front door", context: [], response_hint: [] } }],
        },
        { from: "phone", mess: [{ response: { content: ["Door is locked ✓"] } }] },
      ],
    );
    assert.deepEqual(
      messages.map(({ ts }) => ts),
      [created_at, updated_at],
    );

    // And the log has the whole of it.
    await exchange.rest();
    const types = (await exchange.log()).map((event) => event.event_type).sort();
    assert.deepEqual(types, [
      "executor_registered",
      "message_added",
      "message_added",
      "status_changed",
      "status_changed",
      "thread_created",
    ]);
    await exchange.assertSound();
  } finally {
    await exchange.stop();
  }
});

test("state survives a restart", async () => {
  const state = await mkdtemp(join(tmpdir(), "mess-state-"));
  try {
    let exchange = await startExchange({ state });
    const { key } = await exchange.register("phone");
    const ref = await exchange.client(key).ask("Water the plants");
    await exchange.rest();
    await exchange.stop();
    exchange = await startExchange({ state });
    const phone = exchange.client(key);
    const answer = await phone.get(`requests/${ref}`);
    assert.equal(answer.body.thread.intent, "Water the plants");
    assert.deepEqual(await phone.list("status=pending"), [ref]);
    await exchange.stop();
  } finally {
    await rm(state, { recursive: true, force: true });
  }
});
