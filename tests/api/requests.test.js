// Requests over HTTP: statuses, conflicts, conditions, lists.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExchange } from "../support/exchange.js";

let exchange;
let agent;
let phone;
let tablet;
before(async () => {
  exchange = await startExchange();
  agent = await exchange.register("agent");
  phone = await exchange.register("phone", { display_name: "My Phone" });
  tablet = await exchange.register("tablet");
});
after(async () => {
  await exchange.rest();
  await exchange.assertSound();
  await exchange.stop();
});

const set = (client, ref, status, more = {}) =>
  client.patch(`requests/${ref}`, { status, ...more });

test("fields a client may not set are ignored, unknown ones are kept", async () => {
  const answer = await agent.post("requests", {
    intent: "Feed the cat",
    context: "She is on the roof",
    priority: "urgent",
    response_hints: ["photo"],
    ref: "2020-01-01-XXXX",
    status: "completed",
    requestor_id: "tablet",
    created_at: "2020-01-01T00:00:00Z",
    colour: { of: ["cat", 1, null] },
  });
  assert.equal(answer.status, 201);
  const { thread } = (await agent.get(`requests/${answer.body.ref}`)).body;
  assert.equal(thread.status, "pending");
  assert.equal(thread.requestor_id, "agent");
  assert.equal(thread.priority, "urgent");
  assert.deepEqual(thread.messages[0].mess, [
    {
      request: {
        intent: "Feed the cat",
        context: ["She is on the roof"],
        response_hint: ["photo"],
        colour: { of: ["cat", 1, null] },
      },
    },
  ]);
});

test("blocks are kept as they came, to the digit", async () => {
  const ref = await agent.ask("Keep this");
  const block =
    '{"z":{"__proto__":{"x":1},"constructor":[]},"n":[9007199254740993,-0.5,1e30],"a":"\\t✓"}';
  const answer = await agent.patch(`requests/${ref}`, `{"mess":[${block}]}`);
  assert.equal(answer.status, 200);
  const read = await agent.get(`requests/${ref}`);
  assert.ok(read.text.includes(block.replace("1e30", "1e+30").replace("\\t", "\\t")), read.text);
});

test("another executor is told who holds it, and takes over if it says so", async () => {
  const ref = await agent.ask("Check the mail");
  assert.equal((await set(phone, ref, "claimed")).status, 200);
  const refused = await set(tablet, ref, "in-progress");
  assert.equal(refused.status, 409);
  assert.equal(refused.body.code, "held_by_other");
  assert.equal(refused.body.executor_id, "phone");
  assert.equal(refused.body.status, "claimed");
  assert.match(refused.body.error, /phone/);
  const taken = await set(tablet, ref, "claimed", { takeover: true });
  assert.deepEqual(taken.body, { ref, status: "claimed", version: 3 });
  assert.equal((await set(phone, ref, "completed")).status, 409);
  const { thread } = (await agent.get(`requests/${ref}`)).body;
  assert.equal(thread.executor_id, "tablet");
});

test("other spellings are accepted, the wire has one", async () => {
  const ref = await agent.ask("Spell it");
  assert.equal((await set(phone, ref, "in_progress")).body.status, "in-progress");
  assert.equal((await set(agent, ref, "canceled")).body.status, "cancelled");
  assert.deepEqual((await agent.get("requests?status=canceled")).body.threads.length, 1);
});

test("what is over takes messages but no status", async () => {
  const ref = await agent.ask("Short");
  await set(phone, ref, "completed");
  const refused = await set(agent, ref, "cancelled");
  assert.equal(refused.status, 409);
  assert.equal(refused.body.code, "ended");
  assert.equal(refused.body.status, "completed");
  const thanks = await agent.patch(`requests/${ref}`, { mess: [{ note: "thanks" }] });
  assert.deepEqual(thanks.body, { ref, status: "completed", version: 3 });
});

test("a retry is safe and writes nothing", async () => {
  const ref = await agent.ask("Twice");
  const call = {
    status: "completed",
    message: "all good",
    mess: [{ response: { content: ["ok"] } }],
  };
  const first = await phone.patch(`requests/${ref}`, call);
  const second = await phone.patch(`requests/${ref}`, call);
  assert.equal(second.status, 200);
  assert.deepEqual(second.body, first.body);
  const conditional = await phone.patch(`requests/${ref}`, call, { "If-Match": '"1"' });
  assert.equal(conditional.status, 200, "also when it named the version before");
  assert.equal((await agent.get(`requests/${ref}`)).body.thread.messages.length, 2);
});

test("If-Match makes a change conditional, If-None-Match a read cheap", async () => {
  const ref = await agent.ask("Careful");
  const read = await agent.get(`requests/${ref}`);
  const etag = read.headers.get("ETag");
  assert.equal(etag, '"1"');
  const unchanged = await agent.get(`requests/${ref}`, { "If-None-Match": etag });
  assert.equal(unchanged.status, 304);
  assert.equal(unchanged.text, "");
  assert.equal(unchanged.headers.get("ETag"), etag);
  for (const stale of ['"7"', "nonsense", 'W/"1"']) {
    const headers = { "If-Match": stale };
    const refused = await phone.patch(`requests/${ref}`, { status: "claimed" }, headers);
    assert.equal(refused.status, 412, stale);
    assert.equal(refused.body.version, 1);
  }
  const claimed = await phone.patch(`requests/${ref}`, { status: "claimed" }, { "If-Match": etag });
  assert.equal(claimed.status, 200);
  assert.equal(claimed.headers.get("ETag"), '"2"');
  assert.equal((await agent.get(`requests/${ref}`, { "If-None-Match": etag })).status, 200);
  const any = await phone.patch(`requests/${ref}`, { status: "held" }, { "If-Match": "*" });
  assert.equal(any.status, 200);
});

test("a mutation is seen by every list at once", async () => {
  const ref = await agent.ask("See me", { priority: "background" });
  const has = async (query) => (await phone.list(query)).includes(ref);
  assert.ok((await has("")) && (await has("status=pending")));
  for (const status of ["claimed", "waiting", "completed"]) {
    await set(phone, ref, status);
    assert.ok(await has(`status=${status}`), status);
    assert.ok(!(await has("status=pending")));
    assert.equal((await phone.list("")).filter((one) => one === ref).length, 1);
  }
  assert.ok(await has("executor=phone&requestor=agent&priority=background"));
  assert.ok(!(await has("executor=tablet")));
});

test("lists: newest change first, in pages, since a moment", async () => {
  const lister = await exchange.register("lister", { exchange: "lists" });
  const refs = [];
  for (let n = 0; n < 25; n++) refs.push(await lister.ask(`Errand ${n}`));
  refs.reverse();
  assert.deepEqual(await lister.list("limit=10"), refs);
  assert.deepEqual(await lister.list("limit=7&status=pending"), refs);
  assert.deepEqual(await lister.list(""), refs);
  const { threads } = (await lister.get("requests?limit=3")).body;
  assert.deepEqual(Object.keys(threads[0]), [
    "ref",
    "status",
    "intent",
    "requestor_id",
    "executor_id",
    "priority",
    "created_at",
    "updated_at",
  ]);
  const since = encodeURIComponent(threads[2].updated_at);
  assert.deepEqual(await lister.list(`updated_since=${since}`), refs.slice(0, 3));
  const first = (await lister.get("requests?limit=3")).body;
  assert.equal(first.complete, undefined);
  const wrong = await lister.get(`requests?status=claimed&cursor=${first.next_cursor}`);
  assert.equal(wrong.status, 400);
  assert.equal(wrong.body.field, "cursor");
});

test("HEAD works where GET does, OPTIONS everywhere", async () => {
  const ref = await agent.ask("Head");
  const headers = { Authorization: `Bearer ${agent.key}` };
  for (const path of ["/health", `home/requests/${ref}`, "home/requests", "home/executors"]) {
    const head = await exchange.fetch(path, { method: "HEAD", headers });
    assert.equal(head.status, 200, path);
    assert.equal(await head.text(), "");
    const options = await exchange.fetch(path, { method: "OPTIONS" });
    assert.equal(options.status, 204, path);
    assert.equal(options.headers.get("Access-Control-Allow-Origin"), "*");
    assert.match(options.headers.get("Access-Control-Allow-Headers"), /Authorization/);
  }
  const missing = await exchange.fetch("home/requests/2020-01-01-XXXX", {
    method: "HEAD",
    headers,
  });
  assert.equal(missing.status, 404);
});

test("every answer has the common headers", async () => {
  const given = await agent.get("requests", { "X-Request-Id": "my-id-1" });
  assert.equal(given.headers.get("X-Request-Id"), "my-id-1");
  for (const answer of [
    given,
    await agent.get("requests/2020-01-01-XXXX"),
    await exchange.client().get("requests"),
    await exchange.client().get("nothing"),
  ]) {
    assert.equal(answer.headers.get("Access-Control-Allow-Origin"), "*");
    assert.match(answer.headers.get("Access-Control-Expose-Headers"), /ETag/);
    assert.equal(answer.headers.get("X-Content-Type-Options"), "nosniff");
    assert.equal(answer.headers.get("Cache-Control"), "no-store");
    assert.ok(answer.headers.get("X-Request-Id"));
  }
  const strange = await agent.get("requests", { "X-Request-Id": "x".repeat(200) });
  assert.match(strange.headers.get("X-Request-Id"), /^[0-9a-f-]{36}$/);
  const line = exchange.logs.map((log) => log.message).find((text) => text?.includes("my-id-1"));
  const { level, status, path, method } = JSON.parse(line);
  assert.deepEqual(
    { level, status, path, method },
    { level: "info", status: 200, path: "/api/v1/exchanges/home/requests", method: "GET" },
  );
});

test("health", async () => {
  for (const path of ["/health", "/health?deep=1"]) {
    const answer = await exchange.fetch(path);
    assert.equal(answer.status, 200);
    const { commit, version, ...rest } = await answer.json();
    assert.deepEqual(rest, {
      status: "ok",
      service: "mess-exchange",
      join: "open",
      storage: exchange.storage,
      exchange_id: "home",
    });
    assert.match(version, /^\d+\.\d+\.\d+$/);
    assert.match(commit, /^[0-9a-f]{12}$|^unknown$/);
  }
});
