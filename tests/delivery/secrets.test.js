// Credentials of channels and hooks: encrypted at rest where there is a key, and nowhere else to
// be found.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startExchange } from "../support/exchange.js";
import { Outside } from "../support/outside.js";

const KEYS = [1, 2].map((byte) => Buffer.alloc(32, byte).toString("base64"));
const CREDENTIAL = "a-very-long-credential-1234";
const PROFILE = {
  notifications: [
    { type: "ntfy", topic: "t", token: CREDENTIAL },
    { type: "webhook", url: `https://a.example/${CREDENTIAL}`, headers: { "X-Key": CREDENTIAL } },
  ],
  hooks: { on_request_created: [{ type: "todoist", token: CREDENTIAL }] },
};

/** Runs one exchange after the other over one bucket, each with its settings. */
async function inTurn(...stages) {
  const state = await mkdtemp(join(tmpdir(), "mess-"));
  const keys = {};
  try {
    for (const [vars, work] of stages) {
      const outside = new Outside();
      const exchange = await startExchange({ vars, state, outside });
      try {
        await work(exchange, outside, keys);
        const logs = JSON.stringify(exchange.logs);
        assert.ok(!logs.includes(CREDENTIAL), "no credential in the log");
      } finally {
        await exchange.stop();
      }
    }
  } finally {
    await rm(state, { recursive: true });
  }
}

async function register(exchange, _outside, keys) {
  keys.agent = (await exchange.register("agent")).key;
  keys.phone = (await exchange.register("phone", PROFILE)).key;
}

async function stored(exchange) {
  return [...(await exchange.objects())].map((pair) => pair.join("\n")).join("\n");
}

/** Everything is sent with its credential. */
async function works(exchange, outside, keys) {
  await exchange.client(keys.agent).ask("Check front door");
  const sent = await outside.expect(3);
  const of = (host) => sent.find((request) => request.host === host);
  assert.equal(of("ntfy.sh").headers.authorization, `Bearer ${CREDENTIAL}`);
  assert.equal(of("a.example").path, `/${CREDENTIAL}`);
  assert.equal(of("a.example").headers["x-key"], CREDENTIAL);
  assert.equal(of("api.todoist.com").headers.authorization, `Bearer ${CREDENTIAL}`);
  await exchange.rest();
  const profile = await exchange.client(keys.phone).get("executors/phone");
  assert.equal(profile.body.executor.notifications[0].token, "••••1234");
}

test("with a key no credential lies in the bucket in the clear, and a key can be replaced", () =>
  inTurn(
    [
      { SECRETS_KEY: KEYS[0] },
      async (exchange, outside, keys) => {
        await register(exchange, outside, keys);
        await works(exchange, outside, keys);
        const all = await stored(exchange);
        assert.ok(!all.includes(CREDENTIAL));
        assert.equal(all.match(/"sealed":/g).length, 4);
        const nonces = [...all.matchAll(/"sealed":"[0-9a-f]{8}\.(.{16})/g)].map(
          ([, nonce]) => nonce,
        );
        assert.equal(new Set(nonces).size, 4, "a nonce each");
      },
    ],
    [
      { SECRETS_KEY: `${KEYS[1]} ${KEYS[0]}` },
      async (exchange, outside, keys) => {
        await works(exchange, outside, keys);
        const before = await stored(exchange);
        const phone = exchange.client(keys.phone);
        await phone.patch("executors/phone", { display_name: "Phone" });
        const after = await stored(exchange);
        const ids = (all) =>
          new Set([...all.matchAll(/"sealed":"([0-9a-f]{8})/g)].map(([, id]) => id));
        assert.notDeepEqual(ids(before), ids(after), "sealed anew with the current key");
        assert.equal(ids(after).size, 1);
      },
    ],
    [{ SECRETS_KEY: KEYS[1] }, works],
    [
      {},
      async (exchange, outside, keys) => {
        const phone = exchange.client(keys.phone);
        await exchange.client(keys.agent).ask("Check front door");
        await exchange.eventually(
          async () => (await phone.get("executors/phone/deliveries")).body.deliveries.length >= 12,
          "attempts",
        );
        const { deliveries } = (await phone.get("executors/phone/deliveries")).body;
        for (const { outcome, error } of deliveries.slice(0, 3)) {
          assert.equal(outcome, "failed");
          assert.match(error, /encrypted with a key that SECRETS_KEY does not hold/);
        }
        assert.equal(outside.sent.length, 0);
        const profile = await phone.get("executors/phone");
        assert.equal(profile.body.executor.notifications[0].token, "••••");
      },
    ],
  ));

test("without a key they lie as they were given, and are sealed once there is one", () =>
  inTurn(
    [
      {},
      async (exchange, outside, keys) => {
        await register(exchange, outside, keys);
        await works(exchange, outside, keys);
        const record = (await exchange.objects("executors/exchange=home/phone.json")).values();
        assert.ok([...record][0].includes(CREDENTIAL));
        // But nowhere else.
        for (const [key, text] of await exchange.objects()) {
          if (!key.startsWith("executors/")) assert.ok(!text.includes(CREDENTIAL), key);
        }
      },
    ],
    [
      { SECRETS_KEY: KEYS[0] },
      async (exchange, outside, keys) => {
        await works(exchange, outside, keys);
        await exchange.client(keys.phone).patch("executors/phone", { display_name: "Phone" });
        assert.ok(!(await stored(exchange)).includes(CREDENTIAL));
        await works(exchange, outside, keys);
      },
    ],
  ));

test("whoever has only the key to a profile cannot have its credentials sent elsewhere", async () => {
  const outside = new Outside();
  const exchange = await startExchange({ outside });
  try {
    const phone = await exchange.register("phone", PROFILE);
    const shown = (await phone.get("executors/phone")).body.executor;
    const [ntfy, webhook] = shown.notifications;
    const [todoist] = shown.hooks.on_request_created;
    const url = "https://evil.example/";
    for (const change of [
      { notifications: [{ ...ntfy, server: url }] },
      { notifications: [ntfy, { ...webhook, url }] },
      { hooks: { on_request_created: [{ ...todoist, type: "home_assistant", url }] } },
    ]) {
      assert.equal((await phone.patch("executors/phone", change)).status, 400);
    }
    await phone.post("executors/phone/test");
    assert.ok(!JSON.stringify(outside.sent).includes("evil"));
  } finally {
    await exchange.stop();
  }
});

test("a sealed credential cannot be written by a client", async () => {
  const exchange = await startExchange({ vars: { SECRETS_KEY: KEYS[0] } });
  try {
    const nobody = exchange.client();
    const url = "https://a.example/";
    for (const [channel, field] of [
      [{ type: "ntfy", topic: "t", token: { sealed: "00000000.AAAA" } }, "token"],
      [{ type: "webhook", url: { sealed: "00000000.AAAA" } }, "url"],
      [{ type: "webhook", url, headers: { sealed: "00000000.AAAA" } }, "headers.sealed"],
      [{ type: "webhook", url, headers: { Sealed: "x", A: "secret" } }, "headers.Sealed"],
      [{ type: "webhook", url, headers: { A: { sealed: "00000000.AAAA" } } }, "headers.A"],
    ]) {
      const profile = { executor_id: "phone", notifications: [channel] };
      const answer = await nobody.post("register", profile);
      assert.equal(answer.status, 400);
      assert.equal(answer.body.field, `notifications[0].${field}`);
    }
  } finally {
    await exchange.stop();
  }
});
