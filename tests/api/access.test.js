// Who may join, what members may do, and how they go.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { startExchange } from "../support/exchange.js";

const OPERATOR = "an-operators-token-0123456789";

let exchange;
before(async () => {
  exchange = await startExchange({ vars: { OPERATOR_TOKEN: OPERATOR, LIMITS: "off" } });
});
after(async () => {
  await exchange.stop();
});

/** Registers by an invitation of `owner`, which offers `what`. */
async function invite(owner, what, more = {}) {
  const made = await owner.post("invitations", what);
  assert.equal(made.status, 201, made.text);
  const nobody = exchange.client(undefined, owner.exchange);
  const joined = await nobody.post("register", { invitation: made.body.code, ...more });
  assert.equal(joined.status, 201, joined.text);
  return exchange.client(joined.body.api_key, owner.exchange);
}

/** Asserts a refusal: its status and its code. */
function refuses(answer, status, code, what) {
  assert.deepEqual([answer.status, answer.body?.code], [status, code], what ?? answer.text);
}

test("an owner invites, the invited registers with the code, and the owner removes them", async () => {
  const anna = await exchange.register("anna", { exchange: "family" });
  const named = await anna.patch("exchange", { name: "The Millers", timezone: "Europe/Berlin" });
  assert.equal(named.body.exchange.name, "The Millers");
  assert.deepEqual(named.body.exchange.owners, ["anna"]);

  const made = await anna.post("invitations", { label: "for Ben", display_name: "Ben" });
  assert.equal(made.status, 201, made.text);
  assert.deepEqual(Object.keys(made.body), ["id", "code", "expires_at"]);
  const { id, code } = made.body;
  const nobody = exchange.client(undefined, "family");
  const seen = await nobody.post("invitations/lookup", { code: code.toLowerCase() });
  assert.equal(seen.status, 200, seen.text);
  const { name, invited_by, role } = seen.body;
  assert.deepEqual(
    { name, invited_by, role },
    { name: "The Millers", invited_by: "anna", role: "member" },
  );

  const joined = await nobody.post("register", { invitation: code });
  assert.equal(joined.status, 201, joined.text);
  assert.deepEqual([joined.body.executor_id, joined.body.role], ["ben", "member"]);
  const ben = exchange.client(joined.body.api_key, "family");
  assert.equal((await ben.get("requests")).status, 200);
  refuses(await nobody.post("register", { invitation: code }), 403, "invitation");

  const list = await anna.get("invitations");
  assert.equal(list.body.invitations[0].used_by, "ben");
  assert.ok(!list.text.includes(code) && !/hash/.test(list.text), list.text);

  const held = await anna.ask("Check the front door");
  assert.equal((await ben.patch(`requests/${held}`, { status: "claimed" })).status, 200);
  const asked = await ben.ask("Buy milk");
  const removed = await anna.send("DELETE", "executors/ben");
  assert.deepEqual(removed.body, { executor_id: "ben", removed: true });
  refuses(await ben.get("requests"), 401, "key_revoked");
  await exchange.eventually(async () => {
    const [one, other] = await Promise.all([held, asked].map((ref) => anna.get(`requests/${ref}`)));
    return one.body.thread.status === "pending" && other.body.thread.status === "cancelled";
  }, "what Ben left");
  refuses(await nobody.post("register", { executor_id: "ben" }), 409, "already_registered");
  const members = await anna.get("executors");
  assert.deepEqual(
    members.body.executors.map((member) => member.id),
    ["anna"],
  );

  const audit = await anna.get("audit?limit=2");
  const told = audit.body.entries.map(({ event, executor_id, by }) => [event, executor_id, by]);
  assert.deepEqual(told, [
    ["member_removed", "ben", "anna"],
    ["member_joined", "ben", "ben"],
  ]);
  const rest = await anna.get(`audit?cursor=${audit.body.next_cursor}`);
  assert.deepEqual(
    rest.body.entries.map(({ event }) => event),
    ["invitation_made", "exchange_changed", "member_joined"],
  );
  assert.equal(rest.body.entries[0].invitation_id, id);
});

// Everything that can be called, with what may call it. Each call is made so that it changes nothing:
// who may make it is told that it is wrong, or that there is nothing.
const READ = ["read"];
const REQUEST = ["request"];
const EXECUTE = ["execute"];
const MANAGE = ["manage"];
const SAYS = ["request", "execute"];
const CALLS = (ref) => [
  // [method, path, body, scopes of which one is needed, who may beside members, other limits]
  ["GET", "requests", undefined, READ, "guest"],
  ["GET", `requests/${ref}`, undefined, READ, "hidden"],
  ["GET", `requests/${ref}/events`, undefined, READ, "hidden"],
  ["POST", "requests", {}, REQUEST, "guest"],
  ["PATCH", `requests/${ref}`, { mess: [{ note: 1 }], status: 1 }, undefined, "guest"],
  ["PATCH", `requests/${ref}`, { status: "claimed" }, EXECUTE, "hidden"],
  [
    "PATCH",
    `requests/${ref}`,
    { mess: [{ reply: { answers: { a: 1 } } }] },
    REQUEST,
    "hidden replies",
  ],
  ["POST", `requests/${ref}/lease`, { lease: "PT5M" }, EXECUTE, "hidden"],
  ["GET", "executors", undefined, READ, "guest operator"],
  ["GET", "executors/me", undefined, READ, "guest"],
  ["GET", "executors/me/deliveries", undefined, READ, "guest"],
  ["PATCH", "executors/me", {}, MANAGE, "guest operator"],
  ["POST", "executors/me/test", undefined, MANAGE, "guest"],
  ["POST", "executors/me/channels", {}, MANAGE, "guest"],
  ["DELETE", "executors/me/channels/none", undefined, MANAGE, "guest"],
  ["GET", "executors/me/keys", undefined, MANAGE, "guest operator"],
  ["POST", "executors/me/keys", {}, MANAGE, "guest"],
  ["DELETE", "executors/me/keys/none", undefined, MANAGE, "guest operator"],
  ["DELETE", "executors/me?requests=wrong", undefined, MANAGE, "guest operator"],
  ["POST", "invitations", { executor_id: "me", max_uses: 0 }, MANAGE, "guest operator"],
  ["GET", "capabilities", undefined, READ, ""],
  ["PUT", "capabilities/x", { tags: 1 }, MANAGE, ""],
  ["GET", "exchange", undefined, READ, "guest operator"],
  ["PATCH", "exchange", {}, MANAGE, "owners operator"],
  ["POST", "invitations", { executor_id: "new", revoke_others: true }, MANAGE, "owners operator"],
  ["GET", "invitations", undefined, MANAGE, "owners operator"],
  ["DELETE", "invitations/00000000", undefined, MANAGE, "owners operator"],
  ["GET", "executors/anna/keys", undefined, MANAGE, "owners operator"],
  ["DELETE", "executors/anna/keys/none", undefined, MANAGE, "owners operator"],
  ["PATCH", "executors/nobody", { suspended: true }, MANAGE, "owners operator"],
  ["DELETE", "executors/nobody", undefined, MANAGE, "owners operator"],
  ["GET", "audit", undefined, MANAGE, "owners operator"],
];

/** What the rules say of a call: the refusal, or nothing if it may be made. */
function expected([, , , scopes, who], { role, scopes: has, dead }) {
  if (dead) return dead;
  if (role === "operator") return who.includes("operator") ? undefined : [401, "unauthenticated"];
  if (role === "stranger") return [401, "unauthenticated"];
  const lacks = scopes && !scopes.some((scope) => has.includes(scope));
  // Whoever is not told that there is a request is not told of scopes either.
  const hides = role === "guest" && who.includes("hidden");
  if (hides && scopes !== READ) return [404, "no_such_request"];
  if (lacks) return [403, "scope"];
  if (hides) return [404, "no_such_request"];
  if (who.includes("replies") && role === "member") return [403, "not_requestor"];
  if (who.includes("owners") && role !== "owner") return [403, "owners_only"];
  if (role === "guest" && !who.includes("guest")) return [403, "not_for_guests"];
  return undefined;
}

test("each call, by each role, with each scope", async () => {
  const home = "matrix";
  const anna = await exchange.register("anna", { exchange: home });
  // It is over, so nobody can do anything to it.
  const ref = await anna.ask("Check the front door");
  await anna.patch(`requests/${ref}`, { status: "cancelled" });
  const member = await exchange.register("member", { exchange: home });
  const guest = await invite(anna, { executor_id: "guest", role: "guest" });
  const callers = [
    { name: "the operator", client: exchange.client(OPERATOR, home), role: "operator" },
    { name: "nobody", client: exchange.client(undefined, home), role: "stranger" },
    ...[
      anna.key.slice(0, -1),
      `${anna.key}0`,
      anna.key.toUpperCase(),
      "mess_matrix_",
      "Bearer",
    ].map((key) => ({
      name: `the key ${key.length}`,
      client: exchange.client(key, home),
      role: "stranger",
    })),
    {
      name: "a wrong key",
      client: exchange.client(`${anna.key.slice(0, -1)}x`, home),
      role: "stranger",
    },
  ];
  const all = ["read", "request", "execute", "manage"];
  for (const [role, client] of Object.entries({ owner: anna, member, guest })) {
    callers.push({ name: role, client, role, scopes: all });
    for (const scope of all) {
      const made = await client.post("executors/me/keys", { label: scope, scopes: [scope] });
      assert.equal(made.status, 201, made.text);
      const with_scope = exchange.client(made.body.api_key, home);
      callers.push({ name: `${role} with ${scope}`, client: with_scope, role, scopes: [scope] });
    }
  }
  const suspended = await exchange.register("suspended", { exchange: home });
  await anna.patch("executors/suspended", { suspended: true });
  callers.push({ name: "who is suspended", client: suspended, dead: [403, "suspended"] });
  const removed = await exchange.register("removed", { exchange: home });
  await anna.send("DELETE", "executors/removed");
  callers.push({ name: "who was removed", client: removed, dead: [401, "key_revoked"] });
  const revoked = await member.post("executors/me/keys", { label: "lost" });
  await member.send("DELETE", `executors/me/keys/${revoked.body.id}`);
  const lost = exchange.client(revoked.body.api_key, home);
  callers.push({ name: "a revoked key", client: lost, dead: [401, "key_revoked"] });
  const other = await exchange.register("anna", { exchange: "elsewhere" });
  const stranger = exchange.client(other.key, home);
  callers.push({
    name: "a key of another exchange",
    client: stranger,
    dead: [403, "other_exchange"],
  });

  let [refused, made] = [0, 0];
  for (const call of CALLS(ref)) {
    const [method, path, body] = call;
    for (const caller of callers) {
      const answer = await caller.client.send(method, path, body);
      const what = `${caller.name}: ${method} ${path} ${JSON.stringify(body)}: ${answer.text}`;
      const rule = expected(call, caller);
      if (rule) {
        refuses(answer, ...rule, what);
        refused += 1;
      } else {
        assert.ok(![401, 403].includes(answer.status) && answer.status < 500, what);
        made += 1;
      }
    }
  }
  assert.ok(refused > 200 && made > 100, `${refused} and ${made}`);
  // Nothing was changed by any of this.
  const thread = await anna.get(`requests/${ref}`);
  assert.equal(thread.body.thread.version, 2);
  const list = await anna.get("executors");
  assert.equal(list.body.executors.length, 4);
});

test("a message needs a key that is good for asking or for working", async () => {
  const anna = await exchange.register("anna", { exchange: "says" });
  const ref = await anna.ask("Check the front door");
  for (const scope of ["read", "manage", "request", "execute"]) {
    const made = await anna.post("executors/me/keys", { label: scope, scopes: [scope] });
    const client = exchange.client(made.body.api_key, "says");
    const answer = await client.patch(`requests/${ref}`, { mess: [{ note: scope }] });
    if (SAYS.includes(scope)) assert.equal(answer.status, 200, answer.text);
    else refuses(answer, 403, "scope");
  }
});

test("me stands for the caller, and tells what its key is good for", async () => {
  const anna = await exchange.register("anna", { exchange: "me" });
  const ben = await exchange.register("ben", { exchange: "me" });
  const own = await ben.ask("mine");
  const other = await anna.ask("hers");
  await ben.patch(`requests/${other}`, { status: "claimed" });
  assert.deepEqual(await ben.list("requestor=me"), [own]);
  assert.deepEqual(await ben.list("executor=me"), [other]);
  const made = await anna.post("executors/me/keys", {
    label: "agent",
    scopes: ["read"],
    expires_in: "P1D",
  });
  const agent = exchange.client(made.body.api_key, "me");
  const { role, key } = (await agent.get("executors/me")).body.executor;
  assert.equal(role, "owner");
  assert.deepEqual([key.id, key.label, key.scopes], [made.body.id, "agent", ["read"]]);
  assert.ok(Date.parse(key.expires_at) > Date.now());
  const keys = (await anna.get("executors/me/keys")).body.keys;
  assert.deepEqual(
    keys.map(({ label }) => label),
    ["registration", "agent"],
  );
  assert.equal(keys[1].last4, made.body.api_key.slice(-4));
  assert.equal(keys[1].made_with, keys[0].id);
  assert.ok(!JSON.stringify(keys).includes(made.body.api_key.slice(10, 40)));
  refuses(
    await exchange.client(undefined, "me").post("register", { executor_id: "me" }),
    400,
    "invalid",
  );
});

test("two phones do not overwrite each other's channels", async () => {
  const anna = await exchange.register("anna", { exchange: "phones" });
  const made = await anna.post("executors/me/keys", { label: "second" });
  const second = exchange.client(made.body.api_key, "phones");
  const one = await anna.post("executors/me/channels", {
    type: "ntfy",
    topic: "one",
    token: "tk_0123456789ab",
  });
  const two = await second.post("executors/me/channels", { type: "ntfy", topic: "two" });
  assert.deepEqual([one.status, two.status], [201, 201], one.text + two.text);
  assert.ok(!one.text.includes("tk_0123456789ab"));
  const topics = async () => {
    const { notifications } = (await anna.get("executors/me")).body.executor;
    return notifications.map(({ topic }) => topic);
  };
  assert.deepEqual(await topics(), ["one", "two"]);
  // A channel goes with the key by which it was made.
  await anna.send("DELETE", `executors/me/keys/${made.body.id}`);
  assert.deepEqual(await topics(), ["one"]);
  const gone = await anna.send("DELETE", `executors/me/channels/${one.body.channel.id}`);
  assert.equal(gone.status, 200, gone.text);
  assert.deepEqual(await topics(), []);
  refuses(
    await anna.send("DELETE", `executors/me/channels/${one.body.channel.id}`),
    404,
    "no_such_channel",
  );
  const masked = { type: "ntfy", topic: "x", token: one.body.channel.token };
  refuses(await anna.post("executors/me/channels", masked), 400, "invalid");
  for (let n = 0; n < 20; n += 1)
    await anna.post("executors/me/channels", { type: "ntfy", topic: `t${n}` });
  refuses(await anna.post("executors/me/channels", { type: "ntfy", topic: "x" }), 409, "too_many");
});

test("a profile is changed only at the version that was read, if one says so", async () => {
  const anna = await exchange.register("anna", { exchange: "versions" });
  const first = (await anna.get("executors/anna")).headers.get("etag");
  const change = (name, tag) =>
    anna.patch("executors/anna", { display_name: name }, tag && { "If-Match": tag });
  assert.equal((await change("One", first)).status, 200);
  refuses(await change("Two", first), 412, "version_differs");
  const second = (await anna.get("executors/anna")).headers.get("etag");
  assert.notEqual(first, second);
  assert.equal((await change("Three", `"other", ${second}`)).status, 200);
  assert.equal((await change("Four", "*")).status, 200);
  assert.equal((await change("Five")).status, 200);
  refuses(
    await change("Six", `W/${(await anna.get("executors/anna")).headers.get("etag")}`),
    412,
    "version_differs",
  );
});

test("the operator acts as an owner, but asks nobody for anything", async () => {
  const old = await exchange.register("old", { exchange: "operated" });
  const operator = exchange.client(OPERATOR, "operated");
  const guest = await operator.post("invitations", {
    executor_id: "g",
    role: "guest",
    kind: "device",
  });
  assert.equal(guest.status, 201, guest.text);
  const nobody = exchange.client(undefined, "operated");
  assert.equal((await nobody.post("register", { invitation: guest.body.code })).status, 201);
  const { executors } = (await operator.get("executors")).body;
  assert.deepEqual([executors[0].role, executors[0].kind], ["guest", "device"]);
  assert.equal((await operator.patch("executors/g", { role: "owner" })).status, 200);
  assert.equal((await operator.send("DELETE", "executors/old")).status, 200);
  refuses(await old.get("exchange"), 401, "key_revoked");
  const entries = (await operator.get("audit")).body.entries;
  assert.deepEqual([entries[0].event, entries[0].by], ["member_removed", null]);
  refuses(await exchange.client(OPERATOR, "nowhere").get("exchange"), 404, "no_such_exchange");
  refuses(await operator.post("requests", { intent: "x" }), 401, "unauthenticated");
  refuses(
    await exchange.client(`${OPERATOR}x`, "operated").get("exchange"),
    401,
    "unauthenticated",
  );
});

test("an owner limits how urgent the requests of a member are", async () => {
  const anna = await exchange.register("anna", { exchange: "urgent" });
  const agent = await exchange.register("agent", { exchange: "urgent" });
  await anna.patch("executors/agent", { max_priority: "normal", kind: "software" });
  const urgent = await agent.post("requests", { intent: "x", priority: "urgent" });
  refuses(urgent, 403, "max_priority");
  assert.equal(urgent.body.max_priority, "normal");
  assert.equal((await agent.post("requests", { intent: "x" })).status, 201);
  await anna.patch("executors/agent", { max_priority: "urgent" });
  assert.equal((await agent.post("requests", { intent: "x", priority: "urgent" })).status, 201);
});

test("a guest sees nothing that is not addressed to it", async () => {
  const anna = await exchange.register("anna", { exchange: "guests" });
  const guest = await invite(anna, { executor_id: "guest", role: "guest" });
  const secret = await anna.ask("a secret errand", { context: ["the safe"] });
  const own = await guest.ask("a taxi, please");
  assert.deepEqual(await guest.list(), [own]);
  for (const query of ["status=pending", "priority=normal", "requestor=anna", "limit=1"]) {
    const page = await guest.get(`requests?${query}`);
    assert.ok(
      !page.text.includes(secret) && !page.text.includes("secret"),
      `${query}: ${page.text}`,
    );
  }
  for (const [method, path, body] of [
    ["GET", `requests/${secret}`],
    ["GET", `requests/${secret}/events`],
    ["PATCH", `requests/${secret}`, { status: "claimed" }],
    ["PATCH", `requests/${secret}`, { mess: [{ note: "hi" }] }],
    ["PATCH", `requests/${secret}`, { status: "cancelled" }],
    ["POST", `requests/${secret}/lease`, { lease: "PT5M" }],
  ]) {
    const answer = await guest.send(method, path, body, { "If-Match": '"99"' });
    refuses(answer, 404, "no_such_request");
    const unknown = await guest.send(method, path.replace(secret, "2025-01-01-ZZZZ"), body, {
      "If-Match": '"1"',
    });
    assert.equal(answer.text, unknown.text, "as if there were nothing");
  }
  const members = await guest.get("executors");
  assert.deepEqual(
    members.body.executors.map(({ id }) => id),
    ["guest"],
  );
  assert.equal((await anna.get(`requests/${secret}`)).body.thread.version, 1);
});

test("members are listed in pages", async () => {
  const anna = await exchange.register("m0", { exchange: "pages" });
  for (let n = 1; n < 7; n += 1) await exchange.register(`m${n}`, { exchange: "pages" });
  await anna.send("DELETE", "executors/m3");
  const ids = [];
  let cursor;
  do {
    const page = await anna.get(`executors?limit=2${cursor ? `&cursor=${cursor}` : ""}`);
    assert.ok(page.body.executors.length <= 2, page.text);
    ids.push(...page.body.executors.map(({ id }) => id));
    cursor = page.body.next_cursor;
  } while (cursor);
  assert.deepEqual(ids, ["m0", "m1", "m2", "m4", "m5", "m6"]);
  for (const query of ["limit=0", "limit=1001", "limit=x", "cursor=a/b", "limit=1&limit=2"]) {
    refuses(await anna.get(`executors?${query}`), 400, "invalid");
  }
});

test("hostile names, ids, codes and tokens are refused in a sentence", async () => {
  const anna = await exchange.register("anna", { exchange: "hostile" });
  const nobody = exchange.client(undefined, "hostile");
  const ids = [
    "",
    " ",
    "me",
    "ME",
    "exchange",
    "Exchange",
    "ex-change",
    "3xchange",
    "a/b",
    "a b",
    "../x",
    "é",
    "a\u0000",
    "x".repeat(65),
    5,
    {},
    null,
    "-a",
    "_a",
  ];
  for (const executor_id of ids) {
    refuses(
      await nobody.post("register", { executor_id }),
      400,
      "invalid",
      JSON.stringify(executor_id),
    );
    if (executor_id === null || executor_id === "me") continue;
    const answer = await anna.post("invitations", { executor_id });
    refuses(answer, 400, "invalid", JSON.stringify(executor_id));
  }
  refuses(await nobody.post("register", { executor_id: "ANNA" }), 409, "already_registered");
  const names = [
    "",
    " ",
    "a\nb",
    "a\u202eb",
    "a\u200bb",
    "an\u200dna",
    "\ufeffanna",
    "exchange",
    "The Exchange",
    "ехсhange",
    "x".repeat(257),
    5,
    [],
  ];
  for (const name of names) {
    const what = JSON.stringify(name);
    refuses(
      await nobody.post("register", { executor_id: "x", display_name: name }),
      400,
      "invalid",
      what,
    );
    refuses(await anna.patch("executors/me", { display_name: name }), 400, "invalid", what);
    refuses(await anna.patch("exchange", { name }), 400, "invalid", what);
    refuses(await anna.post("executors/me/keys", { label: name }), 400, "invalid", what);
    refuses(await anna.post("invitations", { label: name }), 400, "invalid", what);
  }
  for (const code of ["", "x", "0000-0000", "é".repeat(28), "-".repeat(1000), "0".repeat(28)]) {
    refuses(await nobody.post("invitations/lookup", { code }), 403, "invitation", code);
    refuses(
      await nobody.post("register", { executor_id: "x", invitation: code }),
      403,
      "invitation",
      code,
    );
  }
  for (const code of [5, {}, []]) {
    refuses(await nobody.post("invitations/lookup", { code }), 400, "invalid");
  }
  const token = randomBytes(20).toString("hex");
  for (const wrong of [
    "",
    "x",
    token.slice(1),
    `${token}0`,
    token.toUpperCase().replace(/\d/g, "A"),
    "0".repeat(40),
    5,
  ]) {
    refuses(
      await nobody.post("register", { executor_id: "x", token: wrong }),
      400,
      "invalid",
      String(wrong),
    );
  }
  for (const path of [
    "invitations/../x",
    "invitations/x",
    "invitations/%00",
    `invitations/${"0".repeat(9)}`,
  ]) {
    const answer = await anna.send("DELETE", path);
    assert.ok([404, 405].includes(answer.status), `${path}: ${answer.text}`);
  }
  for (const fields of [
    { role: "admin" },
    { role: 1 },
    { kind: "cat" },
    { suspended: "yes" },
    { max_priority: "high" },
    { timezone: "Mars/Olympus" },
  ]) {
    const path = fields.timezone ? "exchange" : "executors/anna";
    refuses(await anna.patch(path, fields), 400, "invalid", JSON.stringify(fields));
  }
  const members = await anna.get("executors");
  assert.deepEqual(
    members.body.executors.map(({ id }) => id),
    ["anna"],
  );
});

test("a registration whose answer got lost is answered again", async () => {
  const nobody = exchange.client(undefined, "lost");
  const anna = await exchange.register("anna", { exchange: "lost" });
  const { code } = (await anna.post("invitations", {})).body;
  const token = randomBytes(20).toString("hex");
  const ask = { executor_id: "ben", token, invitation: code };
  const first = await nobody.post("register", ask);
  const again = await nobody.post("register", ask);
  assert.deepEqual([first.status, again.status], [201, 201], again.text);
  assert.equal(first.body.api_key, again.body.api_key);
  const other = { executor_id: "ben", token: randomBytes(20).toString("hex") };
  refuses(await nobody.post("register", other), 409, "already_registered");
  refuses(await nobody.post("register", { executor_id: "cleo", token }), 409, "token_used");
  const ben = exchange.client(first.body.api_key, "lost");
  const [key] = (await ben.get("executors/me/keys")).body.keys;
  await ben.send("DELETE", `executors/me/keys/${key.id}`);
  refuses(await nobody.post("register", ask), 409, "key_revoked");
  const stored = [...(await exchange.objects()).values()].join("\n");
  assert.ok(!stored.includes(token), "nothing of it is stored but the hash");
});

test("a key gives away no more than it can do", async () => {
  const anna = await exchange.register("anna", { exchange: "small" });
  const made = await anna.post("executors/me/keys", { label: "bot", scopes: ["manage", "read"] });
  const bot = exchange.client(made.body.api_key, "small");
  for (const much of [{ role: "owner" }, { executor_id: "anna", revoke_others: true }]) {
    refuses(await bot.post("invitations", much), 403, "full_key_needed", JSON.stringify(much));
  }
  refuses(await bot.post("invitations", { scopes: ["execute"] }), 400, "invalid");
  const small = await invite(bot, {}, { executor_id: "ben" });
  assert.deepEqual((await small.get("executors/me")).body.executor.key.scopes, ["read", "manage"]);
  // The invitation ends with the key by which it was made.
  const { code } = (await bot.post("invitations", {})).body;
  await anna.send("DELETE", `executors/me/keys/${made.body.id}`);
  const joined = await exchange
    .client(undefined, "small")
    .post("register", { executor_id: "cleo", invitation: code });
  refuses(joined, 403, "invitation");
  assert.equal(joined.body.reason, "revoked");
  // Who owns the exchange alone keeps a key to govern it with.
  const [only] = (await anna.get("executors/me/keys")).body.keys;
  refuses(await anna.send("DELETE", `executors/me/keys/${only.id}`), 409, "last_key");
  assert.equal((await anna.get("requests")).status, 200);
});

test("pages of other origins may use every method that there is", async () => {
  const asked = { Origin: "https://app.example", "Access-Control-Request-Method": "DELETE" };
  const answer = await exchange.fetch("home/executors/me", { method: "OPTIONS", headers: asked });
  assert.equal(answer.status, 204);
  assert.equal(answer.headers.get("access-control-allow-origin"), "*");
  const methods = answer.headers.get("access-control-allow-methods").split(", ");
  for (const method of new Set(CALLS("x").map(([name]) => name))) {
    assert.ok(methods.includes(method), `${method}: ${methods}`);
  }
});

test("a member and its profile change together, or the profile is at another version", async () => {
  const anna = await exchange.register("anna", { exchange: "together" });
  const change = { kind: "person", display_name: "Anna" };
  refuses(
    await anna.patch("executors/me", change, { "If-Match": '"stale"' }),
    412,
    "version_differs",
  );
  assert.equal((await anna.get("executors")).body.executors[0].kind, undefined);
  assert.equal((await anna.patch("executors/me", change)).status, 200);
  const [row] = (await anna.get("executors")).body.executors;
  assert.deepEqual([row.kind, row.display_name], ["person", "Anna"]);
});

test("everything that was done agrees", async () => {
  await exchange.rest();
  // The end of a membership is looked at once more after two minutes.
  await exchange.tick(Date.now() + 4 * 60_000);
  const left = [...(await exchange.objects("due/")).values()].map((text) => JSON.parse(text).kind);
  assert.deepEqual(
    left.filter((kind) => kind === "removal"),
    [],
  );
  await exchange.rest();
  await exchange.assertSound();
});
