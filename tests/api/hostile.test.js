// Hostile input for every endpoint: a clear refusal, never a 500, never a panic, nothing left
// behind.

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, beforeEach, test } from "node:test";
import { startExchange } from "../support/exchange.js";

const MIB = 1024 * 1024;

let exchange;
let agent;
let ref;
let objects;
before(async () => {
  exchange = await startExchange();
  agent = await exchange.register("agent");
  await exchange.register("phone");
  ref = await agent.ask("Check front door");
  await exchange.rest();
});
beforeEach(async () => {
  objects = await exchange.objects();
});
after(async () => {
  const errors = exchange.logs.filter((log) =>
    /panic|unreachable|"level":"error"/.test(log.message),
  );
  assert.deepEqual(errors, []);
  await exchange.assertSound();
  await exchange.stop();
});

/** Fails if anything in the bucket is not as it was when the test began. */
async function assertNothingWritten() {
  await exchange.rest();
  assert.deepEqual(await exchange.objects(), objects);
}

/** The endpoints that take a body. */
const writes = () => [
  ["POST", "register"],
  ["POST", "requests"],
  ["PATCH", `requests/${ref}`],
  ["PATCH", "executors/agent"],
  ["POST", `requests/${ref}/lease`],
  ["PUT", "capabilities/see"],
];

/** The largest body that a path takes, in bytes. */
const limitOf = (path) => (/^(register|executors|capabilities)/.test(path) ? MIB / 4 : 8 * MIB);

function assertRefused(answer, statuses, what) {
  assert.ok(statuses.includes(answer.status), `${what}: ${answer.status} ${answer.text}`);
  assert.equal(typeof answer.body.error, "string");
  assert.match(answer.body.code, /^[a-z_]+$/);
}

test("bodies that are no JSON, or no object", async () => {
  const bodies = [
    "",
    "{",
    "nul",
    "[]",
    "5",
    '"x"',
    "null",
    '{"intent":"x",}',
    '{"intent":"x"}{"intent":"x"}',
    "\ufeff{}",
    "intent=x",
    '{"intent":"\\ud800"}',
    new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]),
    new Uint8Array(1000),
  ];
  for (const [method, path] of writes()) {
    for (const body of bodies) {
      // To renew a claim needs no body, but a claim.
      const statuses = path.endsWith("/lease") && body === "" ? [409] : [400];
      const answer = await agent.send(method, path, body);
      assertRefused(answer, statuses, `${method} ${path} ${body}`);
    }
  }
  await assertNothingWritten();
});

test("strings with control characters, wherever they stand", async () => {
  for (const control of ["\\u0000", "\\u0007", "\\u001b", "\\u007f", "\\u0085", "\\r"]) {
    const text = `"a${control}b"`;
    for (const [path, body, method = "PATCH"] of [
      ["register", `{"executor_id":"new","display_name":${text}}`, "POST"],
      ["register", `{"executor_id":"new","capabilities":[{${text}:1}]}`, "POST"],
      ["requests", `{"intent":${text}}`, "POST"],
      ["requests", `{"intent":"x","context":[{"deep":[${text}]}]}`, "POST"],
      ["requests", `{"intent":"x",${text}:1}`, "POST"],
      [`requests/${ref}`, `{"mess":[{"response":${text}}]}`],
      [`requests/${ref}`, `{"mess":[{"status":{"code":"held","reason":${text}}}]}`],
      [`requests/${ref}`, `{"mess":[{"reply":{"answers":{${text}:1}}}]}`],
      ["requests", `{"intent":"x","requires":[{${text}:1}]}`, "POST"],
      ["capabilities/see", `{"description":${text}}`, "PUT"],
      ["capabilities/see", `{"tags":[${text}]}`, "PUT"],
      [`requests/${ref}`, `{"status":"held","message":${text}}`],
      ["executors/agent", `{"display_name":${text}}`],
    ]) {
      const answer = await agent.send(method, path, body);
      assertRefused(answer, [400], `${path} ${body}`);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that there are none is the point
      assert.ok(!/[\u0000-\u0008\u001b]/.test(answer.text));
    }
  }
  await assertNothingWritten();
});

test("names that stand twice, and nesting without end", async () => {
  const deep = (levels) => `${"[".repeat(levels)}${"]".repeat(levels)}`;
  for (const [method, path] of writes()) {
    for (const body of [
      '{"intent":"a","intent":"b","executor_id":"x","status":"held","display_name":"x"}',
      `{"intent":"x","context":${deep(70)},"executor_id":"x","mess":[${deep(70)}]}`,
      `{"intent":"x","a":${deep(100_000)}}`,
      '{"a":'.repeat(50_000),
    ]) {
      const answer = await agent.send(method, path, body);
      assertRefused(answer, [400], `${method} ${path} ${body.slice(0, 40)}`);
    }
  }
  await assertNothingWritten();
});

test("wrong types for every field", async () => {
  const values = [0, -1.5, true, {}, [], [[]], [null], "", "x".repeat(20_000)];
  const fields = {
    "POST register": [
      "executor_id",
      "display_name",
      "capabilities",
      "notifications",
      "hooks",
      "preferences",
    ],
    "POST requests": [
      "intent",
      "priority",
      "context",
      "needed_by",
      "confirm_before",
      "requires",
      "escalate_to",
    ],
    [`PATCH requests/${ref}`]: ["status", "message", "mess", "takeover", "lease", "estimate"],
    [`POST requests/${ref}/lease`]: ["lease"],
    "PUT capabilities/see": ["description", "tags"],
    "PATCH executors/agent": [
      "display_name",
      "capabilities",
      "notifications",
      "hooks",
      "preferences",
    ],
  };
  const good = {
    executor_id: (value) => typeof value === "string" && value !== "" && value.length <= 64,
    capabilities: (value) => Array.isArray(value) && value.length === 0,
    notifications: (value) => Array.isArray(value) && value.length === 0,
    context: (value) => Array.isArray(value) || typeof value === "string",
    hooks: (value) => !Array.isArray(value) && typeof value === "object",
    preferences: (value) => !Array.isArray(value) && typeof value === "object",
    takeover: (value) => value === true,
    message: (value) => value === "",
    confirm_before: (value) => value === true,
    requires: (value) => Array.isArray(value) && value.length === 0,
    escalate_to: (value) => Array.isArray(value) && value.length === 0,
    description: (value) => value === "",
    tags: (value) => Array.isArray(value) && value.length === 0,
  };
  for (const [endpoint, names] of Object.entries(fields)) {
    const [method, path] = endpoint.split(" ");
    for (const name of names) {
      for (const value of values) {
        if (good[name]?.(value)) continue;
        const rest = { executor_id: "new", intent: "x", status: "claimed" };
        const answer = await agent.send(method, path, { ...rest, [name]: value });
        assertRefused(answer, [400], `${endpoint} ${name}=${JSON.stringify(value).slice(0, 30)}`);
      }
    }
  }
  await assertNothingWritten();
});

test("more values than fit in memory", async () => {
  for (const [method, path] of writes()) {
    for (const item of ["0,", '{"a":0},']) {
      const body = `{"intent":"x","executor_id":"new","mess":[${item.repeat(MIB / 4)}0]}`;
      assertRefused(await agent.send(method, path, body), [413], `${method} ${path} ${item}`);
    }
  }
  await assertNothingWritten();
});

test("names of prototypes are data", async () => {
  const body =
    '{"intent":"x","__proto__":{"status":"completed"},"constructor":{"prototype":{"a":1}}}';
  const answer = await agent.post("requests", body);
  assert.equal(answer.status, 201);
  const read = await agent.get(`requests/${answer.body.ref}`);
  assert.equal(read.body.thread.status, "pending");
  assert.ok(read.text.includes('"__proto__":{"status":"completed"}'));
  for (const path of ["requests?__proto__=x", "requests?constructor=1&status=pending"]) {
    assert.equal((await agent.get(path)).status, 200);
  }
  for (const path of [
    "requests/__proto__",
    "requests?status=__proto__",
    "requests?limit=constructor",
  ]) {
    assertRefused(await agent.get(path), [400], path);
  }
});

test("a body that is not declared as JSON", async () => {
  for (const [method, path] of writes()) {
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "application/jsonp",
      "",
    ]) {
      const answer = await agent.send(method, path, '{"intent":"x"}', { "Content-Type": type });
      assertRefused(answer, [415], `${method} ${path} ${type}`);
    }
  }
  await assertNothingWritten();
});

test("bodies beyond the limit, with and without a declared length", async () => {
  const large = JSON.stringify({ intent: "x", padding: "x".repeat(8 * MIB) });
  for (const [method, path] of writes()) {
    const declared = await agent.send(method, path, large);
    assertRefused(declared, [413], `${method} ${path}`);
    assert.equal(declared.body.limit, limitOf(path));
    const chunked = await sendChunked(method, `/api/v1/exchanges/home/${path}`, large);
    assert.equal(chunked.status, 413, `${method} ${path} chunked`);
  }
  const within = await sendChunked("POST", "/api/v1/exchanges/home/requests", '{"intent":5}');
  assert.equal(within.status, 400, "a small body in chunks is read");
  await assertNothingWritten();
});

/** Sends a body without a Content-Length, by hand: fetch buffers and declares it. */
function sendChunked(method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = { Authorization: `Bearer ${agent.key}`, "Content-Type": "application/json" };
    const { hostname, port } = new URL(exchange.url);
    const call = request({ hostname, port, path, method, headers }, (answer) => {
      answer.resume();
      resolve({ status: answer.statusCode });
    });
    call.on("error", reject);
    for (let at = 0; at < body.length; at += 64 * 1024) call.write(body.slice(at, at + 64 * 1024));
    call.end();
  });
}

test("a thread grows to its limit and no further", async () => {
  const long = await agent.ask("Grow");
  const block = { note: "x".repeat(1.5 * MIB) };
  assert.equal((await agent.patch(`requests/${long}`, { mess: [block] })).status, 200);
  assert.equal((await agent.patch(`requests/${long}`, { mess: [block] })).status, 200);
  const refused = await agent.patch(`requests/${long}`, { mess: [block] });
  assertRefused(refused, [413], "a third time");
  assert.equal(refused.body.limit, 4 * MIB);
  const { thread } = (await agent.get(`requests/${long}`)).body;
  assert.deepEqual([thread.version, thread.messages.length], [3, 3]);
  assertRefused(
    await agent.post("requests", { intent: "x", a: "x".repeat(5 * MIB) }),
    [413],
    "post",
  );
  const profile = { executor_id: "fat", capabilities: [{ a: "x".repeat(MIB) }] };
  assertRefused(await agent.post("register", profile), [413], "register");
});

test("traversal and strange text in every segment of a path", async () => {
  const segments = [
    "..%2f..%2fevents",
    "%2e%2e%2f",
    "..%5c..",
    "%00",
    "home%00",
    "%ff%fe",
    "%c0%ae%c0%ae",
    "a%2fb",
    "%F0%9F%9A%AA",
    "x".repeat(3000),
    "-home",
    "home.json",
    "%25",
    "%",
    "*",
    "home;x=1",
  ];
  for (const segment of segments) {
    for (const [path, init] of [
      [`${segment}/register`, { method: "POST", body: '{"executor_id":"x"}' }],
      [`${segment}/requests`, {}],
      [`${segment}/executors`, {}],
      [`home/requests/${segment}`, {}],
      [`home/requests/${segment}`, { method: "PATCH", body: '{"status":"claimed"}' }],
      [`home/executors/${segment}`, { method: "PATCH", body: '{"display_name":"x"}' }],
      [`home/requests/${segment}/lease`, { method: "POST" }],
      [`home/capabilities/${segment}`, { method: "PUT", body: '{"tags":5}' }],
      [`home/${segment}`, {}],
      [`home/${segment}/${segment}`, { method: "PUT" }],
    ]) {
      const headers = { Authorization: `Bearer ${agent.key}`, "Content-Type": "application/json" };
      const answer = await exchange.fetch(path, { ...init, headers });
      assert.ok([400, 403, 404, 405].includes(answer.status), `${path}: ${answer.status}`);
      assert.ok((await answer.json()).error);
    }
  }
  await assertNothingWritten();
});

test("an encoded name is the name", async () => {
  const headers = { Authorization: `Bearer ${agent.key}` };
  const answer = await exchange.fetch(`%68ome/requests/${ref.replace("-", "%2D")}`, { headers });
  assert.equal(answer.status, 200);
});

test("query parameters: twice, unknown, out of range", async () => {
  for (const query of [
    "limit=0",
    "limit=1001",
    "limit=-1",
    "limit=1e3",
    "limit=",
    "limit=9".padEnd(400, "9"),
    "limit=1&limit=2",
    "status=pending&status=claimed",
    "status=",
    "status=PENDING",
    "priority=high",
    "requestor=a%20b",
    "executor=%00",
    "updated_since=yesterday",
    "updated_since=2025-02-30T00:00:00Z",
    "cursor=x",
    "cursor=",
    "cursor=%00",
    `cursor=${"A".repeat(5000)}`,
  ]) {
    const answer = await agent.get(`requests?${query}`);
    assertRefused(answer, [400], query);
    assert.equal(answer.body.field, query.split("=")[0]);
  }
  for (const query of [
    "unknown=1",
    "unknown=1&unknown=2",
    "&&=&",
    "updated_since=2025-02-01T00:00:00+02:00",
  ]) {
    assert.equal((await agent.get(`requests?${query}`)).status, 200, query);
  }
});

test("methods that a path does not take", async () => {
  for (const [path, methods, allow] of [
    ["/health", ["POST", "PATCH", "PUT", "DELETE"], "GET, HEAD, OPTIONS"],
    ["home/register", ["GET", "HEAD", "PATCH", "PUT", "DELETE"], "POST, OPTIONS"],
    ["home/requests", ["PATCH", "PUT", "DELETE"], "GET, HEAD, POST, OPTIONS"],
    [`home/requests/${ref}`, ["POST", "PUT", "DELETE"], "GET, HEAD, PATCH, OPTIONS"],
    ["home/executors", ["POST", "PATCH", "PUT", "DELETE"], "GET, HEAD, OPTIONS"],
    ["home/executors/agent", ["POST", "PUT"], "GET, HEAD, PATCH, DELETE, OPTIONS"],
    ["home/executors/agent/deliveries", ["POST", "PATCH", "PUT", "DELETE"], "GET, HEAD, OPTIONS"],
    [`home/requests/${ref}/lease`, ["GET", "PATCH", "PUT", "DELETE"], "POST, OPTIONS"],
    ["home/capabilities", ["POST", "PATCH", "PUT", "DELETE"], "GET, HEAD, OPTIONS"],
    ["home/capabilities/see", ["GET", "POST", "PATCH", "DELETE"], "PUT, OPTIONS"],
    ["home/executors/agent/test", ["GET", "PATCH", "PUT", "DELETE"], "POST, OPTIONS"],
  ]) {
    for (const method of [...methods, "PURGE", "PROPFIND"]) {
      const answer = await exchange.fetch(path, { method });
      assert.equal(answer.status, 405, `${method} ${path}`);
      assert.equal(answer.headers.get("Allow"), allow);
    }
  }
});

test("keys cut, extended, of another exchange, of another case", async () => {
  const other = await exchange.register("agent", { exchange: "other" });
  const { key } = agent;
  const cases = [
    [undefined, 401],
    ["", 401],
    [`Bearer ${key.slice(0, -1)}`, 401],
    [`Bearer ${key}0`, 401],
    [`Bearer ${key.toUpperCase()}`, 401],
    [`Bearer ${key.replace("mess_home", "mess_Home")}`, 401],
    [`Bearer ${key.replace("mess_home", "mess_other")}`, 401],
    [`Bearer ${other.key.replace("mess_other", "mess_home")}`, 401],
    [`bearer ${key}`, 401],
    [`BEARER ${key}`, 401],
    [`Basic ${key}`, 401],
    [key, 401],
    [`Bearer${key}`, 401],
    [`Bearer ${key}, Bearer ${key}`, 401],
    ["Bearer mess_home_", 401],
    ["Bearer mess_home_0123456789abcdef0123456789abcdef", 401],
    [`Bearer ${"x".repeat(7000)}`, 401],
    [`Bearer ${other.key}`, 403],
    ["Bearer mess_other_0123456789abcdef0123456789abcdef", 403],
  ];
  const kept = await exchange.objects();
  for (const [authorization, status] of cases) {
    for (const [path, init] of [
      ["home/requests", {}],
      ["home/requests", { method: "POST", body: '{"intent":"x"}' }],
      [`home/requests/${ref}`, { method: "PATCH", body: '{"status":"claimed"}' }],
      ["home/executors/agent", { method: "PATCH", body: '{"display_name":"x"}' }],
      [`home/requests/${ref}/lease`, { method: "POST" }],
      ["home/capabilities", {}],
      ["home/capabilities/see", { method: "PUT", body: "{}" }],
      ["home/nothing/here", {}],
    ]) {
      const headers = { "Content-Type": "application/json" };
      if (authorization !== undefined) headers.Authorization = authorization;
      const answer = await exchange.fetch(path, { ...init, headers });
      assert.equal(answer.status, status, `${authorization} ${path}`);
      if (status === 401) assert.equal(answer.headers.get("WWW-Authenticate"), "Bearer");
      const text = await answer.text();
      assert.ok(!text.includes(key.split("_").at(-1).slice(0, 12)));
    }
  }
  assert.deepEqual(await exchange.objects(), kept);
  for (const path of ["nothing/here", "requests/", `requests/${ref}/`, "register/", "/"]) {
    assert.equal((await agent.get(path)).status, 404, path);
    assert.equal((await exchange.client().get(path)).status, 401, path);
    const options = await exchange.fetch(`home/${path}`, { method: "OPTIONS" });
    assert.equal(options.status, 204, path);
  }
  assert.equal((await agent.get("requests/2020-01-01-XXXX")).status, 404);
  assertRefused(await agent.get("requests/not-a-ref"), [400], "a ref of the wrong form");
});

test("headers that are fit for nothing", async () => {
  for (const headers of [
    { "X-Request-Id": "x".repeat(5000) },
    { "X-Request-Id": "a b\tc" },
    { "If-None-Match": '"'.repeat(2000) },
    { "If-None-Match": `${'"1",'.repeat(1000)}` },
    { "Content-Length": undefined, Accept: "text/html" },
  ]) {
    const clean = Object.fromEntries(Object.entries(headers).filter(([, value]) => value));
    const answer = await agent.get("requests", clean);
    assert.equal(answer.status, 200);
  }
  const refused = await agent.patch(
    `requests/${ref}`,
    { status: "claimed" },
    { "If-Match": '"18446744073709551616", "-1", "99999999999999999999999"' },
  );
  assert.equal(refused.status, 412);
  await assertNothingWritten();
});
