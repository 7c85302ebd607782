// How much one may take, and who may join: the settings LIMITS, TRUST_PROXY, JOIN and EXCHANGES.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openDirectory, SelfHosted } from "../support/selfhosted.js";

async function start(t, vars) {
  const exchange = await SelfHosted.start(await openDirectory(), vars);
  t.after(() => exchange.stop());
  return exchange;
}

/** Headers as the proxy in front of the exchange adds them. */
const from = (address) => ({ "X-Forwarded-For": address });

function limited(answer, fields) {
  assert.equal(answer.status, 429, answer.text);
  const { error, retry_after, ...rest } = answer.body;
  assert.deepEqual(rest, { code: "too_many_requests", ...fields });
  assert.equal(answer.headers.get("retry-after"), String(retry_after));
  assert.match(error, /^There may be \d+ .* Try again in \d+ s\.$/);
  return retry_after;
}

test("registrations are limited by address, and this machine is not", async (t) => {
  const exchange = await start(t, { TRUST_PROXY: "1", JOIN: "open" });
  const nobody = exchange.client();
  const register = (n, address) =>
    nobody.post("register", { executor_id: `m${n}` }, address && from(address));
  for (let n = 0; n < 20; n += 1) assert.equal((await register(n, "203.0.113.7")).status, 201);
  const wait = limited(await register(20, "203.0.113.7"), {
    limit: 20,
    of: "registrations",
    period: "PT1M",
  });
  assert.ok(wait > 0 && wait <= 3, String(wait));
  // A client cannot make up other addresses: only what the proxy added counts.
  limited(await register(21, "198.51.100.9, 203.0.113.7"), {
    limit: 20,
    of: "registrations",
    period: "PT1M",
  });
  // Of IPv6, the network counts.
  for (let n = 0; n < 20; n += 1) {
    assert.equal((await register(100 + n, `2001:db8:1:2::${n + 1}`)).status, 201);
  }
  assert.equal((await register(120, "2001:db8:1:2:ffff::1")).status, 429);
  assert.equal((await register(121, "2001:db8:1:3::1")).status, 201);
  for (let n = 200; n < 225; n += 1) assert.equal((await register(n)).status, 201, "this machine");
  // An invitation is worth more than an address.
  const owner = exchange.client((await nobody.post("register", { executor_id: "x" })).body.api_key);
  assert.equal((await owner.get("executors")).status, 200);
});

test("an address that fails too often is refused, but not the keys that are known", async (t) => {
  const exchange = await start(t, { TRUST_PROXY: "1" });
  const anna = await exchange.register("anna");
  assert.equal((await anna.get("requests", from("203.0.113.7"))).status, 200);
  const ben = await exchange.register("ben");
  const wrong = exchange.client(`${anna.key.slice(0, -1)}${anna.key.endsWith("0") ? 1 : 0}`);
  for (let n = 0; n < 20; n += 1) {
    assert.equal((await wrong.get("requests", from("203.0.113.7"))).status, 401);
  }
  const fields = { limit: 20, of: "failed_logins", period: "PT1M" };
  limited(await wrong.get("requests", from("203.0.113.7")), fields);
  limited(
    await exchange
      .client()
      .post("invitations/lookup", { code: "0".repeat(28) }, from("203.0.113.7")),
    fields,
  );
  // Ben's key was never used here, so the exchange would have to look it up.
  limited(await ben.get("requests", from("203.0.113.7")), fields);
  assert.equal((await anna.get("requests", from("203.0.113.7"))).status, 200, "a known key");
  assert.equal((await ben.get("requests", from("203.0.113.8"))).status, 200, "another address");
});

test("calls, changes, tests and requests are limited by key, each for itself", async (t) => {
  const limits = { calls: 12, changes: 5, tests: 1, requests: 2 };
  const exchange = await start(t, { LIMITS: JSON.stringify(limits) });
  const anna = await exchange.register("anna");
  const ben = await exchange.register("ben");
  await anna.ask("one");
  await anna.ask("two");
  limited(await anna.post("requests", { intent: "three" }), {
    limit: 2,
    of: "requests",
    period: "PT1H",
  });
  assert.equal((await anna.post("executors/anna/test")).status, 200);
  limited(await anna.post("executors/anna/test"), { limit: 1, of: "tests", period: "PT1M" });
  limited(await anna.patch("executors/anna", { display_name: "A" }), {
    limit: 5,
    of: "changes",
    period: "PT1M",
  });
  for (let n = 0; n < 6; n += 1) assert.equal((await anna.get("requests")).status, 200);
  limited(await anna.get("requests"), { limit: 12, of: "calls", period: "PT1M" });
  assert.equal((await ben.get("requests")).status, 200);
  await ben.ask("mine");
  assert.equal((await fetch(`${exchange.url}/health`)).status, 200);
});

test("LIMITS=off takes them all away", async (t) => {
  const exchange = await start(t, { LIMITS: "off", TRUST_PROXY: "1" });
  const wrong = exchange.client("mess_home_wrong");
  for (let n = 0; n < 30; n += 1) {
    assert.equal((await wrong.get("requests", from("203.0.113.7"))).status, 401);
  }
});

test("a limit that nobody knows stops the start", async () => {
  const store = await openDirectory();
  for (const [vars, expected] of [
    [{ LIMITS: '{"cals": 5}' }, /LIMITS knows no limit/],
    [{ LIMITS: '{"calls": 0}' }, /LIMITS must have a number/],
    [{ JOIN: "closed" }, /JOIN must be open, token or invitation/],
    [{ JOIN: "token" }, /JOIN needs a REGISTRATION_TOKEN/],
    [{ OPERATOR_TOKEN: "short" }, /OPERATOR_TOKEN must be/],
    [{ TRUST_PROXY: "yes" }, /TRUST_PROXY must be/],
    [{ EXCHANGES: "a/b" }, /EXCHANGES must be/],
  ]) {
    await assert.rejects(SelfHosted.start(store, vars), expected);
  }
  await store.stop();
});

test("where invitations are needed, only the founder needs none", async (t) => {
  const exchange = await start(t, { JOIN: "invitation", EXCHANGES: "home work" });
  const health = await (await fetch(`${exchange.url}/health`)).json();
  assert.equal(health.join, "invitation");
  const anna = await exchange.register("anna");
  const nobody = exchange.client();
  const refused = await nobody.post("register", { executor_id: "ben" });
  assert.deepEqual([refused.status, refused.body.code], [403, "invitation_needed"]);
  const { code } = (await anna.post("invitations", {})).body;
  const joined = await nobody.post("register", { executor_id: "ben", invitation: code });
  assert.equal(joined.status, 201, joined.text);
  const elsewhere = await exchange
    .client(undefined, "other")
    .post("register", { executor_id: "x" });
  assert.deepEqual([elsewhere.status, elsewhere.body.code], [403, "not_founded"]);
});

test("with a token, the founder needs it too, and an invitation is worth as much", async (t) => {
  const exchange = await start(t, { REGISTRATION_TOKEN: "a-secret-token" });
  const nobody = exchange.client();
  const register = (more) => nobody.post("register", { executor_id: "anna", ...more });
  for (const answer of [await register(), await register({ registration_token: "wrong" })]) {
    assert.deepEqual([answer.status, answer.body.code], [403, "registration_token"]);
  }
  const founded = await register({ registration_token: "a-secret-token" });
  assert.equal(founded.body.role, "owner");
  const anna = exchange.client(founded.body.api_key);
  const { code } = (await anna.post("invitations", { executor_id: "ben" })).body;
  assert.equal((await nobody.post("register", { invitation: code })).status, 201);
});

test("two thousand registrations end at the members that an exchange may have", async (t) => {
  const exchange = await start(t, { LIMITS: '{"registrations": null, "calls": null}' });
  const nobody = exchange.client();
  const anna = await exchange.register("anna");
  const capabilities = Array.from({ length: 60 }, (_, n) => `${n}${"c".repeat(200)}`);
  const statuses = new Map();
  let next = 1;
  const work = async () => {
    while (next < 2_000) {
      const executor_id = `m${next++}`;
      const { status } = await nobody.post("register", {
        executor_id,
        capabilities,
      });
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  // Several at once may pass the same count.
  assert.ok(statuses.get(201) >= 999 && statuses.get(201) <= 1_010, JSON.stringify([...statuses]));
  assert.equal(statuses.get(201) + statuses.get(409), 1_999, JSON.stringify([...statuses]));
  const page = await anna.get("executors?limit=10");
  assert.equal(page.body.executors.length, 10);
  assert.ok(page.body.next_cursor);
});
