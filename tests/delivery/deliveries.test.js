// Deliveries in workerd: durable, out of the answer's way, to addresses that may be called; and
// what their owner sees of them.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Webhook } from "standardwebhooks";
import { HOUR, MINUTE, startExchange } from "../support/exchange.js";
import { Outside, SILENCE } from "../support/outside.js";

async function withExchange(work, { vars, react, state } = {}) {
  const outside = new Outside(react);
  const exchange = await startExchange({ vars, outside, state });
  try {
    await work(exchange, outside);
  } finally {
    await exchange.stop();
  }
}

/** A folder for a bucket that outlives its runtime. */
async function withState(work) {
  const state = await mkdtemp(join(tmpdir(), "mess-"));
  try {
    await work(state);
  } finally {
    await rm(state, { recursive: true });
  }
}

const deliveries = async (client, id = "phone") =>
  (await client.get(`executors/${id}/deliveries`)).body.deliveries;
const profileOf = async (client, id = "phone") =>
  (await client.get(`executors/${id}`)).body.executor;

const GOOGLE = {
  type: "google_tasks",
  client_id: "xxx.apps.googleusercontent.com",
  client_secret: "client-secret",
  refresh_token: "refresh-token",
};

test("Google Tasks: a task is created, the runtime killed, the right task completed", () =>
  withState(async (state) => {
    const tasks = new Map();
    const react = ({ method, host, path, body }) => {
      if (host === "oauth2.googleapis.com") {
        const access_token = "access";
        return { status: 200, body: { access_token, expires_in: 3599, token_type: "Bearer" } };
      }
      if (method === "POST") {
        const id = `task-${tasks.size}`;
        tasks.set(id, { ...JSON.parse(body), status: "needsAction" });
        return { status: 200, body: { id, ...tasks.get(id) } };
      }
      const task = tasks.get(decodeURIComponent(path.split("/").at(-1)));
      if (!task) return { status: 404, body: { error: { code: 404 } } };
      return { status: 200, body: Object.assign(task, JSON.parse(body)) };
    };
    const hooks = {
      on_request_created: [
        { ...GOOGLE, title: "MESS: {{intent}}", notes: "Ref: {{ref}}\nPriority: {{priority}}" },
      ],
      on_request_completed: [{ ...GOOGLE, action: "complete", task_id: "{{external_id}}" }],
    };
    let keys;
    let refs;
    const isTokenRequest = ({ host }) => host === "oauth2.googleapis.com";
    await withExchange(
      async (exchange, outside) => {
        const [agent, phone] = [
          await exchange.register("agent"),
          await exchange.register("phone", { hooks }),
        ];
        refs = [await agent.ask("Water plants")];
        await exchange.eventually(() => tasks.size === 1, "the first task");
        refs.push(await agent.ask("Check front door"), await agent.ask("Feed cat"));
        await exchange.eventually(() => tasks.size === 3, "three tasks");
        await exchange.rest();
        assert.equal(outside.sent.filter(isTokenRequest).length, 1, "one token while it is valid");
        keys = [agent.key, phone.key];
      },
      { react, state },
    );
    await withExchange(
      async (exchange, outside) => {
        const [agent] = keys.map((key) => exchange.client(key));
        // Neither its executor nor its requestor: its list is ticked off all the same.
        const other = await exchange.register("other");
        await other.patch(`requests/${refs[1]}`, { status: "claimed" });
        await other.patch(`requests/${refs[1]}`, { status: "completed" });
        const done = () => [...tasks.values()].filter(({ status }) => status === "completed");
        await exchange.eventually(() => done().length === 1, "a completed task");
        assert.equal(done()[0].title, "MESS: Check front door");
        assert.equal(done()[0].notes, `Ref: ${refs[1]}\nPriority: normal`);
        assert.equal(outside.sent.filter(isTokenRequest).length, 1);
        await agent.patch(`requests/${refs[0]}`, { status: "completed" });
        await exchange.eventually(() => done().length === 2, "another");
        assert.equal(outside.sent.filter(isTokenRequest).length, 1);
        await exchange.rest();
        await exchange.assertSound();
      },
      { react, state },
    );
  }));

test("a receiver that never answers is in nobody's way, and is not given up", async () => {
  const channels = [
    { type: "ntfy", topic: "t" },
    { type: "slack", webhook_url: "https://hooks.slack.com/x" },
    { type: "google_chat", webhook_url: "https://chat.googleapis.com/x" },
    { type: "webhook", url: "https://a.example/" },
  ];
  const hooks = [
    { type: "webhook", url: "https://a.example/" },
    { type: "ifttt", key: "k" },
    { type: "zapier", webhook_url: "https://hooks.zapier.com/x" },
    { type: "home_assistant", url: "https://ha.example/" },
    { type: "todoist", token: "t" },
    { type: "linear", token: "t", team_id: "t" },
    GOOGLE,
  ];
  await withExchange(
    async (exchange, outside) => {
      const agent = await exchange.register("agent");
      const phone = await exchange.register("phone", {
        notifications: channels,
        hooks: { on_request_created: hooks },
      });
      const ref = await agent.ask("Check front door");
      assert.equal((await agent.get(`requests/${ref}`)).status, 200, "answered meanwhile");
      assert.equal((await outside.expect(6)).length, 6, "six at once");
      // Two chunks of 10 s; the rest, had there been any, would be the tick's.
      let list = [];
      for (let waited = 0; waited < 30 && list.length < 11; waited++) {
        await new Promise((resolve) => setTimeout(resolve, 1_000));
        list = await deliveries(phone);
      }
      assert.equal(list.length, 11);
      for (const { outcome, status, error } of list) {
        assert.deepEqual([outcome, status, error], ["retrying", null, "no answer within 10 s"]);
      }
      assert.deepEqual(
        new Set(list.map(({ type }) => type)),
        new Set([...channels, ...hooks].map(({ type }) => type)),
      );
      assert.equal(outside.take().length, 5, "nothing twice");
      outside.react = () => ({ status: 200, body: { id: "1", data: {}, access_token: "a" } });
      await exchange.tick(Date.now() + MINUTE);
      await exchange.rest();
      list = await deliveries(phone);
      assert.equal(list.filter(({ outcome }) => outcome === "delivered").length, 11);
      await exchange.assertSound(Date.now() + MINUTE);
    },
    { react: () => SILENCE },
  );
});

test("what was sent when the runtime died is sent again, once", () =>
  withState(async (state) => {
    let key;
    const sent = [];
    await withExchange(
      async (exchange, outside) => {
        const agent = await exchange.register("agent");
        const channel = { type: "webhook", url: "https://a.example/" };
        key = (await exchange.register("phone", { notifications: [channel] })).key;
        await agent.ask("Check front door");
        sent.push(...(await outside.expect(1)));
      },
      { react: () => SILENCE, state },
    );
    await withExchange(
      async (exchange, outside) => {
        await exchange.tick();
        assert.equal(outside.sent.length, 0, "not before the writer's time is over");
        await exchange.tick(Date.now() + MINUTE);
        sent.push(...outside.take());
        await exchange.tick(Date.now() + 3 * MINUTE);
        await exchange.tick(Date.now() + HOUR);
        sent.push(...outside.take());
        assert.equal(sent.length, 2);
        assert.equal(sent[0].headers["webhook-id"], sent[1].headers["webhook-id"]);
        assert.equal(sent[0].body, sent[1].body);
        const [attempt] = await deliveries(exchange.client(key));
        assert.equal(attempt.outcome, "delivered");
        await exchange.rest();
        await exchange.assertSound(Date.now() + HOUR);
      },
      { state },
    );
  }));

test("signatures are verified by the library of Standard Webhooks", () =>
  withExchange(async (exchange, outside) => {
    const [old, current] = [
      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
      `whsec_${Buffer.alloc(64, 9).toString("base64")}`,
    ];
    const agent = await exchange.register("agent");
    const channel = { type: "webhook", url: "https://a.example/", secret: `${current} ${old}` };
    const hook = { ...channel, url: "https://b.example/", body: { said: "{{intent}} ✓" } };
    await exchange.register("phone", {
      notifications: [channel],
      hooks: { on_request_created: [hook] },
    });
    const ref = await agent.ask("Door 🚪");
    for (const request of await outside.expect(2)) {
      for (const secret of [old, current]) {
        const said = new Webhook(secret).verify(request.body, request.headers);
        if (request.host === "a.example") assert.equal(said.thread.ref, ref);
        else assert.deepEqual(said, { said: "Door 🚪 ✓" });
      }
      assert.throws(() => new Webhook(old).verify(`${request.body} `, request.headers));
      const other = `whsec_${Buffer.alloc(24, 8).toString("base64")}`;
      assert.throws(() => new Webhook(other).verify(request.body, request.headers));
    }
  }));

test("a test is sent through every channel and tells what came of each", () => {
  const react = ({ host }) =>
    ({
      "ntfy.sh": { status: 200, body: { id: "x" } },
      "hooks.slack.com": { status: 404, body: "no_service" },
      "chat.googleapis.com": { status: 503 },
      "home.example": { status: 200 },
    })[host];
  return withExchange(
    async (exchange, outside) => {
      const phone = await exchange.register("phone", {
        display_name: "My Phone",
        notifications: [
          { type: "ntfy", topic: "mess-alerts" },
          { type: "slack", webhook_url: "https://hooks.slack.com/services/gone" },
          { type: "google_chat", webhook_url: "https://chat.googleapis.com/v1/x?key=k&token=t" },
          { type: "webhook", url: "https://home.example/notify" },
        ],
        preferences: { min_priority: "urgent" },
      });
      await exchange.register("tablet");
      const answer = await phone.post("executors/phone/test");
      assert.equal(answer.status, 200);
      const results = answer.body.results.map(({ type, outcome, status, error }) => [
        type,
        outcome,
        status,
        error,
      ]);
      assert.deepEqual(results, [
        ["ntfy", "delivered", 200, null],
        ["slack", "failed", 404, "answered 404: no_service"],
        ["google_chat", "failed", 503, "answered 503"],
        ["webhook", "delivered", 200, null],
      ]);
      const bodies = outside.sent.map(({ body }) => JSON.parse(body));
      const text = "This is how the exchange home reaches My Phone.";
      assert.deepEqual(bodies.at(-1), {
        title: "Test notification",
        body: text,
        thread: null,
        event_type: "test",
      });
      assert.equal(bodies[0].message, text);
      const list = await deliveries(phone);
      assert.deepEqual(
        list.map(({ event, ref, outcome }) => [event, ref, outcome]),
        list.map(({ outcome }) => ["test", null, outcome]),
      );
      assert.equal(list.length, 4);
      assert.deepEqual((await exchange.owed()).length, 0, "a test is not repeated");
      assert.equal((await phone.post("executors/tablet/test")).status, 403);
      assert.equal((await phone.get("executors/tablet")).status, 403);
      assert.equal((await phone.get("executors/tablet/deliveries")).status, 403);
      assert.equal((await phone.get("executors/phone/test")).status, 405);
      assert.equal((await exchange.client().post("executors/phone/test")).status, 401);
    },
    { react },
  );
});

const CREDENTIAL = "a-very-long-credential-1234";
const FULL_PROFILE = {
  notifications: [
    { type: "ntfy", topic: "mess-alerts", token: CREDENTIAL },
    { type: "slack", webhook_url: `https://hooks.slack.com/${CREDENTIAL}` },
    { type: "webhook", url: `https://a.example/${CREDENTIAL}`, headers: { "X-Key": CREDENTIAL } },
  ],
  hooks: {
    on_request_created: [
      { type: "todoist", token: CREDENTIAL, content: "{{intent}}" },
      { ...GOOGLE, client_secret: CREDENTIAL, refresh_token: "short" },
    ],
  },
  preferences: { min_priority: "elevated" },
};

test("an executor sees its profile, masked, and can give it back", () =>
  withExchange(async (exchange, outside) => {
    const phone = await exchange.register("phone", FULL_PROFILE);
    const shown = await profileOf(phone);
    assert.ok(!JSON.stringify(shown).includes(CREDENTIAL.slice(0, -4)));
    assert.deepEqual(
      shown.notifications.map(({ id, created_at, ...rest }) => rest),
      [
        { type: "ntfy", topic: "mess-alerts", token: "••••1234", last: null },
        { type: "slack", webhook_url: "••••1234", last: null },
        { type: "webhook", url: "••••1234", headers: { "X-Key": "••••1234" }, last: null },
      ],
    );
    const [todoist, google] = shown.hooks.on_request_created;
    assert.equal(todoist.content, "{{intent}}");
    assert.equal(todoist.token, "••••1234");
    assert.equal(google.client_id, GOOGLE.client_id);
    assert.equal(google.refresh_token, "••••", "of a short one nothing is shown");
    assert.deepEqual(shown.preferences, FULL_PROFILE.preferences);

    shown.notifications[0].topic = "other-topic";
    const given = { notifications: shown.notifications, hooks: shown.hooks };
    assert.equal((await phone.patch("executors/phone", given)).status, 200);
    const again = await profileOf(phone);
    assert.deepEqual(
      again.notifications.map(({ id }) => id),
      shown.notifications.map(({ id }) => id),
    );
    await phone.post("executors/phone/test");
    const sent = await outside.expect(3);
    const ntfy = sent.find(({ host }) => host === "ntfy.sh");
    assert.equal(ntfy.headers.authorization, `Bearer ${CREDENTIAL}`);
    assert.equal(JSON.parse(ntfy.body).topic, "other-topic");
    const webhook = sent.find(({ host }) => host === "a.example");
    assert.equal(webhook.headers["x-key"], CREDENTIAL);
    assert.equal((await profileOf(phone)).notifications[0].last.outcome, "delivered");

    const masked = [{ type: "ntfy", topic: "t", token: "••••9999" }];
    const refused = await phone.patch("executors/phone", { notifications: masked });
    assert.equal(refused.status, 400);
    assert.equal(refused.body.field, "notifications[0].token");
    const stranger = await exchange.client().post("register", {
      executor_id: "stranger",
      notifications: masked,
    });
    assert.equal(stranger.status, 400);
  }));

test("a channel that is gone is disabled; a test or a new profile enables it", () => {
  let status = 410;
  return withExchange(
    async (exchange, outside) => {
      const agent = await exchange.register("agent");
      const notifications = [{ type: "webhook", url: "https://a.example/" }];
      const phone = await exchange.register("phone", { notifications });
      const disabled = async () => (await profileOf(phone)).notifications[0].disabled;
      await agent.ask("one");
      await exchange.eventually(async () => await disabled(), "disabling");
      assert.match((await disabled()).reason, /410/);
      assert.ok(Date.parse((await disabled()).at));
      await agent.ask("two");
      await exchange.rest();
      assert.equal(outside.take().length, 1, "nothing is sent to it any more");

      assert.equal((await phone.post("executors/phone/test")).body.results[0].outcome, "failed");
      assert.ok(await disabled());
      status = 200;
      assert.equal((await phone.post("executors/phone/test")).body.results[0].outcome, "delivered");
      assert.equal(await disabled(), undefined);

      status = 410;
      await agent.ask("three");
      await exchange.eventually(async () => await disabled(), "disabling again");
      await phone.patch("executors/phone", { notifications });
      assert.equal(await disabled(), undefined);
    },
    { react: () => ({ status }) },
  );
});

test("a bystander's phone is cleared, also by an older ntfy", async () => {
  for (const old of [false, true]) {
    const react = ({ method }) =>
      method === "PUT" && old
        ? { status: 404, body: { code: 40401, http: 404, error: "page not found" } }
        : { status: 200, body: { id: "x" } };
    await withExchange(
      async (exchange, outside) => {
        const channel = (name) => ({ notifications: [{ type: "ntfy", topic: name }] });
        const [agent, phone] = [
          await exchange.register("agent", channel("agent")),
          await exchange.register("phone", channel("phone")),
        ];
        // Quiet hours hold no clearing back: it rings nobody.
        await exchange.register("tablet", {
          ...channel("tablet"),
          preferences: { quiet_hours: { enabled: true, start: "00:00", end: "23:59" } },
        });
        const ref = await agent.ask("Check front door", { priority: "urgent" });
        assert.equal((await outside.expect(2)).length, 2);
        await phone.patch(`requests/${ref}`, { status: "claimed" });
        const sent = await outside.expect(old ? 3 : 2);
        const cleared = sent.filter(({ method }) => method === "PUT");
        assert.deepEqual(
          cleared.map(({ path }) => path),
          [`/tablet/${ref}/clear`],
        );
        const published = sent
          .filter(({ method }) => method === "POST")
          .map(({ body }) => JSON.parse(body));
        const told = published.map(({ topic, title, priority, sequence_id }) => [
          topic,
          title,
          priority,
          sequence_id,
        ]);
        const expected = [["agent", "Claimed by phone", 5, ref]];
        if (old) expected.push(["tablet", "Claimed by phone", 1, ref]);
        assert.deepEqual(told.sort(), expected);
        await exchange.rest();
      },
      { react },
    );
  }
});

test("a link leads to the request where the deployment knows its address", () =>
  withExchange(
    async (exchange, outside) => {
      const agent = await exchange.register("agent");
      await exchange.register("phone", {
        notifications: [
          { type: "ntfy", topic: "t" },
          { type: "slack", webhook_url: "https://hooks.slack.com/x" },
          { type: "google_chat", webhook_url: "https://chat.googleapis.com/x" },
        ],
      });
      const ref = await agent.ask("Check front door");
      const link = `https://mess.example/api/v1/exchanges/home/requests/${ref}`;
      for (const { body } of await outside.expect(3)) assert.ok(body.includes(link), body);
    },
    { vars: { PUBLIC_URL: "https://mess.example/" } },
  ));
