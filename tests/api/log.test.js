// The event log as other tools read it: DuckDB, with the query of the documentation.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { openDuckDB } from "../support/duckdb.js";
import { startExchange } from "../support/exchange.js";

/** The fields of an event, in their order. */
const SCHEMA = ["event_id", "ts", "exchange_id", "thread_ref", "event_type", "actor_id", "payload"];

let exchange;
let folder;
let ref;
before(async () => {
  exchange = await startExchange();
  folder = await mkdtemp(join(tmpdir(), "mess-log-"));
  const agent = await exchange.register("agent", { capabilities: ["see", { lift: { kg: 10 } }] });
  const phone = await exchange.register("phone");
  ref = await agent.ask("Check front door", { context: ["it is dark"], priority: "urgent" });
  await phone.patch(`requests/${ref}`, { status: "claimed", message: "on my way" });
  await phone.patch(`requests/${ref}`, {
    status: "completed",
    mess: [{ response: { content: ["Door is locked ✓\nand the light is off"] } }],
  });
  // Blocks and contexts of every shape.
  for (const strange of [
    { response: "text", a: { b: 1 } },
    { response: { content: 5 }, exchange_id: "lies", "": null },
    { response: [[["x"]]], 'it is "quoted"': { "a.b": true } },
    { v: 1.5 },
  ]) {
    const shaped = await agent.ask("Strange", { context: [strange], extra: strange });
    await agent.patch(`requests/${shaped}`, { mess: [strange] });
  }
  await exportLog();
});
after(async () => {
  await exchange.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Writes the log's objects to a folder, under their keys. */
async function exportLog() {
  await exchange.rest();
  for (const [key, text] of await exchange.objects("events/")) {
    await mkdir(dirname(join(folder, key)), { recursive: true });
    await writeFile(join(folder, key), text);
  }
}

async function query(sql) {
  const ask = await openDuckDB();
  try {
    return await ask(sql);
  } finally {
    ask.close();
  }
}

const events = (options = "") =>
  `read_json_auto('${folder}/events/**/*.jsonl', hive_partitioning=true${options})`;

test("the documented query reads the whole log", async () => {
  const rows = await query(`SELECT * FROM ${events()};`);
  assert.equal(rows.length, (await exchange.log()).length);
  assert.deepEqual(Object.keys(rows[0]), [...SCHEMA, "exchange"]);
});

test("a thread's story can be told from it", async () => {
  const rows = await query(`
    SELECT event_type, actor_id, json_extract_string(payload, '$.new_status') AS status
    FROM ${events()} WHERE thread_ref = '${ref}' ORDER BY ts, event_type DESC`);
  assert.deepEqual(rows, [
    { event_type: "thread_created", actor_id: "agent", status: null },
    { event_type: "message_added", actor_id: "agent", status: null },
    { event_type: "status_changed", actor_id: "phone", status: "claimed" },
    { event_type: "status_changed", actor_id: "phone", status: "completed" },
    { event_type: "message_added", actor_id: "phone", status: null },
  ]);
});

test("every line is the published schema", async () => {
  for (const event of await exchange.log()) {
    assert.deepEqual(Object.keys(event), SCHEMA);
    assert.match(event.event_id, /^[0-9a-f-]{36}$/);
    assert.match(event.ts, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  }
  const mine = (await exchange.log()).filter((event) => event.thread_ref === ref);
  const created = mine.find((event) => event.event_type === "thread_created");
  assert.deepEqual(created.payload, {
    intent: "Check front door",
    context: ["it is dark"],
    priority: "urgent",
    requestor_id: "agent",
    response_hint: [],
    // What presses says when it is announced again.
    nudge_after: ["PT15M", "PT1H"],
  });
  const claimed = mine.find((event) => event.payload.new_status === "claimed");
  assert.deepEqual(claimed.payload, {
    old_status: "pending",
    new_status: "claimed",
    executor_id: "phone",
    message: "on my way",
  });
  const registered = (await exchange.log()).find(
    (event) => event.event_type === "executor_registered" && event.actor_id === "agent",
  );
  assert.equal(registered.thread_ref, null);
});

test("objects lie under the date of their events, one batch each", async () => {
  for (const [key, text] of await exchange.objects("events/")) {
    const lines = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    const [year, month, day] = lines[0].ts.slice(0, 10).split("-");
    const { exchange_id } = lines[0];
    assert.ok(text.endsWith("\n"));
    assert.match(
      key,
      new RegExp(`^events/exchange=${exchange_id}/${year}/${month}/${day}/[0-9a-f-]{36}\\.jsonl$`),
    );
    assert.ok(lines.every((line) => line.ts === lines[0].ts));
  }
});

test("names that differ in case only are read with the payload as JSON", async () => {
  const other = await exchange.register("agent", { exchange: "2025" });
  const asked = await other.ask("Collide", { context: [{ a: 1, A: 2 }], Intent: "other" });
  await other.patch(`requests/${asked}`, { mess: [{ response: 1, RESPONSE: { a: 1 } }] });
  await exportLog();
  // DuckDB's structs do not tell such names apart, whoever wrote them: then, and only then, it
  // must be told not to look into the payload.
  await assert.rejects(query(`SELECT * FROM ${events()}`), /Duplicate name/);
  const options = ", maximum_depth=2, hive_types={'exchange': VARCHAR}";
  const rows = await query(`
    SELECT exchange, json_extract_string(payload, '$.mess[0].RESPONSE.a') AS a
    FROM ${events(options)} WHERE thread_ref = '${asked}' AND payload.mess[0].RESPONSE IS NOT NULL`);
  assert.deepEqual(rows, [{ exchange: "2025", a: "1" }]);
});
