// Registration, keys and profiles.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExchange } from "../support/exchange.js";

const PROFILE = {
  display_name: "My Phone",
  capabilities: ["see", { lift: { max_kg: 10 } }],
  notifications: [
    { type: "ntfy", topic: "mess-alerts", token: "tk_secret" },
    { type: "slack", webhook_url: "https://hooks.slack.com/services/secret" },
  ],
  hooks: { on_request_created: [{ type: "todoist", token: "todoist-secret" }] },
  preferences: {
    min_priority: "normal",
    quiet_hours: { enabled: true, start: "22:00", end: "07:00" },
  },
};

let exchange;
before(async () => {
  exchange = await startExchange();
});
after(async () => {
  await exchange.rest();
  await exchange.assertSound();
  await exchange.stop();
});

test("members see each other, without secrets, sorted by id", async () => {
  const anyone = await exchange.register("b-1");
  await exchange.register("b", PROFILE);
  await exchange.register("a");
  const answer = await anyone.get("executors");
  assert.equal(answer.status, 200);
  assert.deepEqual(
    answer.body.executors.map((executor) => executor.id),
    ["a", "b", "b-1"],
  );
  const { created_at, last_seen, ...rest } = answer.body.executors[1];
  assert.deepEqual(rest, {
    id: "b",
    display_name: "My Phone",
    capabilities: PROFILE.capabilities,
  });
  assert.ok(created_at && last_seen);
  assert.ok(!/secret|hash|ntfy|hooks|wants/.test(answer.text), answer.text);
});

test("a long profile is listed whole", async () => {
  const capabilities = [{ languages: { all: "✓".repeat(4_500) } }];
  const long = await exchange.register("long", { exchange: "long", capabilities });
  const answer = await long.get("executors");
  assert.deepEqual(answer.body.executors[0].capabilities, capabilities);
});

test("an id is registered once", async () => {
  const twice = { executor_id: "twice" };
  const nobody = exchange.client();
  assert.equal((await nobody.post("register", twice)).status, 201);
  const again = await nobody.post("register", twice);
  assert.equal(again.status, 409);
  assert.equal(again.body.code, "already_registered");
  assert.equal(again.body.api_key, undefined);
});

test("an executor changes its own profile only", async () => {
  const own = await exchange.register("own", PROFILE);
  await exchange.register("other");
  const changed = await own.patch("executors/own", { display_name: "New", capabilities: ["hear"] });
  assert.equal(changed.status, 200);
  assert.deepEqual(changed.body, { executor_id: "own", updated: true });
  const { executors } = (await own.get("executors")).body;
  const shown = executors.find((executor) => executor.id === "own");
  assert.equal(shown.display_name, "New");
  assert.deepEqual(shown.capabilities, ["hear"]);
  const record = JSON.parse(
    (await exchange.objects("executors/exchange=home/own.json")).values().next().value,
  );
  const given = record.notifications.map(({ id, created_at, ...channel }) => channel);
  assert.deepEqual(given, PROFILE.notifications, "what is not given stays");
  assert.equal((await own.patch("executors/other", { display_name: "X" })).status, 403);
  assert.equal((await own.patch("executors/nobody", { display_name: "X" })).status, 403);
  assert.equal((await own.patch("executors/own", {})).status, 400);
  assert.equal((await own.patch("executors/own", { hooks: { on_x: [] } })).status, 400);
});

test("what is wrong with a profile is named by its path", async () => {
  const nobody = exchange.client();
  for (const [profile, field] of [
    [{ notifications: [{ type: "ntfy" }] }, "notifications[0].topic"],
    [{ notifications: [{ type: "pigeon" }] }, "notifications[0].type"],
    [{ hooks: { on_request_created: [{ type: "linear" }] } }, "hooks.on_request_created[0].token"],
    [
      { preferences: { quiet_hours: { enabled: true, start: "25:00" } } },
      "preferences.quiet_hours.start",
    ],
    [{ capabilities: Array(101).fill("x") }, "capabilities"],
    [{ notifications: Array(21).fill({ type: "ntfy", topic: "t" }) }, "notifications"],
    [{ display_name: "x".repeat(257) }, "display_name"],
  ]) {
    const answer = await nobody.post("register", { executor_id: "wrong", ...profile });
    assert.equal(answer.status, 400, field);
    assert.equal(answer.body.field, field);
  }
  for (const id of ["exchange", "", "a b", "../x", "é", "x".repeat(65), 5, null]) {
    const answer = await nobody.post("register", { executor_id: id });
    assert.equal(answer.status, 400, String(id));
    assert.equal(answer.body.field, "executor_id");
  }
});

test("a registration token is asked for where it is set", async () => {
  const guarded = await startExchange({ vars: { REGISTRATION_TOKEN: "open sesame" } });
  try {
    const nobody = guarded.client();
    const before = await guarded.objects();
    const body = { executor_id: "phone" };
    for (const token of [undefined, "", "open", "open sesamE"]) {
      const answer = await nobody.post("register", { ...body, registration_token: token });
      assert.equal(answer.status, 403);
      assert.ok(!answer.text.includes("sesame"));
    }
    assert.deepEqual(await guarded.objects(), before, "nothing is written for a stranger");
    const inBody = { ...body, registration_token: "open sesame" };
    assert.equal((await nobody.post("register", inBody)).status, 201);
    const header = { "X-Registration-Token": "open sesame" };
    assert.equal((await nobody.post("register", { executor_id: "b" }, header)).status, 201);
    const stored = [...(await guarded.objects()).values()].join("");
    assert.ok(!stored.includes("sesame"));
  } finally {
    await guarded.stop();
  }
});

test("the key is nowhere but in the answer", async () => {
  const { key } = await exchange.register("secretive");
  const token = key.split("_").at(-1);
  await exchange.client(key).get("requests");
  const stored = [...(await exchange.objects())].join("");
  assert.ok(!stored.includes(token));
  assert.ok(!JSON.stringify(exchange.logs).includes(token));
});
