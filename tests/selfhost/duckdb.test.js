// The seed's query and the views, over a directory and over S3, of one story.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openDuckDB, openViews, reachS3 } from "../support/duckdb.js";
import { startMoto } from "../support/s3.js";
import { asTarget, mess, openDirectory, SelfHosted } from "../support/selfhosted.js";

let exchange;
let moto;
let refs;
let sources;
before(async () => {
  exchange = await SelfHosted.start(await openDirectory());
  const agent = await exchange.register("agent", { capabilities: ["see"] });
  const phone = await exchange.register("phone", {
    display_name: "My Phone",
    hooks: { on_request_rejected: [{ type: "todoist", token: "secret-token" }] },
  });
  const robot = await exchange.register("robot", { exchange: "2025" });
  const [door, plants] = [
    await agent.ask("Check front door", { priority: "urgent" }),
    await agent.ask("Water the plants", { context: [{ a: 1, A: 2 }] }),
  ];
  const charge = await robot.ask("Charge me");
  // Two steps of one moment, whose order no name tells.
  const steps = ["held", "in_progress"].map((code) => ({ status: { code } }));
  await robot.patch(`requests/${charge}`, { mess: steps });
  await phone.patch(`requests/${door}`, { status: "claimed" });
  await phone.patch(`requests/${door}`, {
    status: "completed",
    mess: [{ response: { content: ["Door is locked ✓"] } }],
  });
  await phone.patch(`requests/${plants}`, { status: "claimed" });
  await phone.patch(`requests/${plants}`, { status: "pending" });
  refs = { door, plants };
  await exchange.rest();
  await exchange.end();

  moto = await startMoto();
  const to = asTarget(moto.env);
  const copied = await mess(["copy"], { ...exchange.store.env, ...to });
  assert.equal(copied.code, 0, copied.stderr);
  sources = {
    "a directory": [exchange.store.folder],
    S3: ["s3://mess-exchange", ...reachS3(moto.env)],
  };
});
after(async () => {
  await moto.stop();
  await exchange.stop();
});

for (const source of ["a directory", "S3"]) {
  test(`the documented query, over ${source}`, async () => {
    const [bucket, ...reach] = sources[source];
    const query = await openDuckDB(...reach);
    // Names that differ in case only, as in one of these requests, take maximum_depth.
    const rows = await query(
      `SELECT * FROM read_json_auto('${bucket}/events/**/*.jsonl', hive_partitioning=true,
         maximum_depth=2)`,
    );
    query.close();
    assert.equal(rows.length, (await exchange.log()).length);
    assert.deepEqual(new Set(rows.map((row) => row.exchange)), new Set(["home", "2025"]));
    const narrow = await openDuckDB(...reach);
    const others = await narrow(
      `SELECT * FROM read_json_auto('${bucket}/events/exchange=2025/**/*.jsonl', hive_partitioning=true);`,
    );
    narrow.close();
    assert.equal(others.length, 6);
  });

  test(`the views, over ${source}`, async () => {
    const [bucket, ...reach] = sources[source];
    const query = await openViews(bucket, ...reach);
    const events = await query("SELECT count(*) AS n FROM events");
    assert.equal(Number(events[0].n), (await exchange.log()).length);

    const steps = await query("SELECT status, executor FROM threads WHERE exchange = '2025'");
    assert.deepEqual(steps, [{ status: "in-progress", executor: "robot" }]);
    const threads = await query(
      `SELECT ref, intent, priority, requestor, status, executor, messages, ended_at IS NOT NULL AS ended
       FROM threads WHERE exchange = 'home' ORDER BY created_at`,
    );
    const common = { requestor: "agent" };
    assert.deepEqual(threads, [
      {
        ref: refs.door,
        intent: "Check front door",
        priority: "urgent",
        ...common,
        status: "completed",
        executor: "phone",
        messages: "2",
        ended: true,
      },
      {
        ref: refs.plants,
        intent: "Water the plants",
        priority: "normal",
        ...common,
        status: "pending",
        executor: null,
        messages: "1",
        ended: false,
      },
    ]);

    const messages = await query(
      `SELECT "from", kind, content->>'$.content[0]' AS said FROM messages
       WHERE ref = '${refs.door}' ORDER BY ts, place`,
    );
    assert.deepEqual(messages, [
      { from: "agent", kind: "request", said: null },
      { from: "phone", kind: "response", said: "Door is locked ✓" },
    ]);

    const executors = await query("SELECT * FROM executors ORDER BY exchange, id");
    assert.deepEqual(
      executors.map(({ exchange, id, display_name }) => [exchange, id, display_name]),
      [
        ["2025", "robot", "robot"],
        ["home", "agent", "agent"],
        ["home", "phone", "My Phone"],
      ],
    );
    assert.ok(!JSON.stringify(executors).includes("secret-token"));
    assert.ok(!JSON.stringify(executors).includes("hash"));
    const members = executors.map(({ id, role, kind, removed_at }) => [id, role, kind, removed_at]);
    assert.deepEqual(members[1], ["agent", "member", null, null]);

    const audit = await query(
      `SELECT event, executor_id, "by", details->>'$.role' AS role FROM audit
       WHERE exchange = 'home' ORDER BY executor_id`,
    );
    assert.deepEqual(
      audit.map(({ event, executor_id, by }) => [event, executor_id, by]),
      [
        ["member_joined", "agent", "agent"],
        ["member_joined", "phone", "phone"],
      ],
    );
    assert.deepEqual(audit.map(({ role }) => role).sort(), ["member", "owner"]);
    assert.ok(!JSON.stringify(audit).includes("hash"));

    for (const [view, expected] of [
      ["time_to_claim", [refs.door, refs.plants]],
      ["time_to_complete", [refs.door]],
    ]) {
      const rows = await query(
        `SELECT ref, priority, executor, seconds FROM ${view} WHERE exchange = 'home'
         ORDER BY ref = '${refs.plants}'`,
      );
      assert.deepEqual(
        rows.map(({ ref }) => ref),
        expected,
        view,
      );
      for (const { seconds, executor } of rows) {
        assert.equal(executor, "phone");
        assert.ok(seconds >= 0 && seconds < 60, `${seconds} s`);
      }
    }
    query.close();
  });
}
