// Each channel and each hook type against a receiver that answers as its documentation says:
// what exactly is sent, and what becomes of it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExchange } from "./support/exchange.js";
import { HANG_UP, Outside } from "./support/outside.js";

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TOKEN_HOST = "oauth2.googleapis.com";
const google = {
  type: "google_tasks",
  client_id: "id.apps.googleusercontent.com",
  client_secret: "client-secret",
  refresh_token: "refresh-token",
};

/** The answers of Google: `tasks` of the API, a good token of the token endpoint. */
const withToken = (tasks) => (request) => {
  if (request.host !== TOKEN_HOST) return typeof tasks === "function" ? tasks(request) : tasks;
  return {
    status: 200,
    body: { access_token: "access-token", expires_in: 3599, token_type: "Bearer" },
  };
};
const linearError = (code, status = 200, message = "no") => ({
  status,
  body: { errors: [{ message, extensions: { code } }], data: null },
});

/**
 * For each provider: configurations whose requests are held against the snapshot, and answers
 * with what is to come of them, as [name, reaction, outcome, status, error, more].
 */
const PROVIDERS = {
  ntfy: {
    channels: [
      { type: "ntfy", topic: "mess-alerts" },
      { type: "ntfy", topic: "t", server: "https://ntfy.example/base/", token: "tk_secret" },
    ],
    good: { status: 200, body: { id: "sPs71M8A2T", event: "message", topic: "mess-alerts" } },
    answers: [
      [
        "wrong token",
        { status: 401, body: { code: 40101, http: 401, error: "unauthorized" } },
        "failed",
        401,
        "answered 401: unauthorized",
      ],
      [
        "no access",
        { status: 403, body: { code: 40301, http: 403, error: "forbidden" } },
        "failed",
        403,
        "answered 403: forbidden",
      ],
      [
        "too many",
        {
          status: 429,
          body: { code: 42901, http: 429, error: "limit reached: too many requests" },
        },
        "retrying",
        429,
        "answered 429",
      ],
      [
        "full",
        { status: 507, body: { code: 50701, http: 507, error: "cannot publish" } },
        "retrying",
        507,
        "answered 507: cannot publish",
      ],
    ],
  },
  slack: {
    channels: [{ type: "slack", webhook_url: "https://hooks.slack.com/services/T0/B0/secret" }],
    good: { status: 200, headers: { "content-type": "text/plain" }, body: "ok" },
    answers: [
      [
        "bad payload",
        { status: 400, body: "invalid_payload" },
        "failed",
        400,
        "answered 400: invalid_payload",
      ],
      [
        "forbidden",
        { status: 403, body: "action_prohibited" },
        "failed",
        403,
        "answered 403: action_prohibited",
      ],
      [
        "unknown hook",
        { status: 404, body: "no_active_hooks" },
        "failed",
        404,
        "answered 404: no_active_hooks",
      ],
      [
        "archived",
        { status: 410, body: "channel_is_archived" },
        "failed",
        410,
        "answered 410: channel_is_archived",
        { disabled: true },
      ],
      [
        "too many",
        {
          status: 429,
          headers: { "retry-after": "30" },
          body: { ok: false, error: "rate_limited" },
        },
        "retrying",
        429,
        "answered 429",
        { after: 30_000 },
      ],
      [
        "broken",
        { status: 500, body: "rollup_error" },
        "retrying",
        500,
        "answered 500: rollup_error",
      ],
    ],
  },
  google_chat: {
    channels: [
      {
        type: "google_chat",
        webhook_url: "https://chat.googleapis.com/v1/spaces/S/messages?key=k&token=secret",
      },
    ],
    good: {
      status: 200,
      body: { name: "spaces/S/messages/M", thread: { name: "spaces/S/threads/T" } },
    },
    answers: [
      [
        "wrong key",
        {
          status: 400,
          body: { error: { code: 400, message: "API key not valid", status: "INVALID_ARGUMENT" } },
        },
        "failed",
        400,
        "answered 400: INVALID_ARGUMENT",
      ],
      [
        "wrong token",
        { status: 403, body: { error: { code: 403, message: "no", status: "PERMISSION_DENIED" } } },
        "failed",
        403,
        "answered 403: PERMISSION_DENIED",
      ],
      [
        "too many",
        {
          status: 429,
          headers: { "retry-after": "7" },
          body: { error: { code: 429, status: "RESOURCE_EXHAUSTED" } },
        },
        "retrying",
        429,
        "answered 429: RESOURCE_EXHAUSTED",
        { after: 7_000 },
      ],
    ],
  },
  webhook: {
    channels: [
      { type: "webhook", url: "https://my-server.example/notify" },
      {
        type: "webhook",
        url: "https://my-server.example/notify?a=b",
        secret: SECRET,
        headers: { Authorization: "Bearer x" },
      },
    ],
    good: { status: 204 },
    answers: [
      ["not found", { status: 404, body: "no such page" }, "failed", 404, "answered 404"],
      ["gone", { status: 410 }, "failed", 410, "answered 410", { disabled: true }],
      [
        "too many",
        { status: 429, headers: { "retry-after": "120" } },
        "retrying",
        429,
        "answered 429",
        { after: 120_000 },
      ],
      [
        "moved",
        { status: 307, headers: { location: "http://169.254.169.254/" } },
        "failed",
        307,
        "answered 307, a redirect, which is not followed",
      ],
      [
        "moved for good",
        { status: 301, headers: { location: "https://other.example/" } },
        "failed",
        301,
        "answered 301, a redirect, which is not followed",
      ],
    ],
  },
  "webhook hook": {
    hooks: [
      { type: "webhook", url: "https://my-server.example/hook" },
      {
        type: "webhook",
        url: "https://my-server.example/{{ref}}/{{intent}}?p={{priority}}",
        method: "PUT",
        secret: SECRET,
        headers: { "X-Intent": "{{intent}}", "X-Nested": "{{event}} {{nothing" },
        body: {
          text: "{{intent}} ({{ref}})",
          list: ["{{status}}", 5, null, { who: "{{requestor_id}}" }],
        },
      },
      { type: "webhook", url: "https://my-server.example/text", body: "{{event}}: {{intent}}" },
      { type: "webhook", url: "https://my-server.example/get?ref={{ref}}", method: "GET" },
      {
        type: "webhook",
        url: "https://my-server.example/form",
        headers: { "Content-Type": "application/x-www-form-urlencoded" },
        body: "intent={{intent}}&by={{actor_id}}",
      },
      {
        type: "webhook",
        url: "https://my-server.example/json",
        headers: { "content-type": "application/json" },
        body: '{"intent": "{{intent}}"}',
      },
    ],
    good: { status: 201, body: { id: 4711 } },
    external: "4711",
    answers: [
      [
        "an id by another name",
        { status: 200, body: { task_id: "t-1" } },
        "delivered",
        200,
        null,
        { external: "t-1" },
      ],
      [
        "an item",
        { status: 200, body: { item_id: "i-1" } },
        "delivered",
        200,
        null,
        { external: "i-1" },
      ],
      ["no id", { status: 200, body: "<html>fine</html>" }, "delivered", 200, null],
      ["refused", { status: 401 }, "failed", 401, "answered 401"],
      ["gone", { status: 410 }, "failed", 410, "answered 410", { disabled: true }],
      [
        "too many",
        { status: 429, headers: { "retry-after": "60" } },
        "retrying",
        429,
        "answered 429",
        { after: 60_000 },
      ],
    ],
  },
  ifttt: {
    hooks: [
      { type: "ifttt", key: "se-cr_et" },
      {
        type: "ifttt",
        key: "se/cret",
        event: "mess {{event}}",
        value1: "{{status}}",
        value2: "x",
        value3: "{{requestor_id}}",
      },
    ],
    good: {
      status: 200,
      headers: { "content-type": "text/html" },
      body: "Congratulations! You've fired the mess_request event",
    },
    answers: [
      [
        "wrong key",
        { status: 401, body: { errors: [{ message: "You sent an invalid key." }] } },
        "failed",
        401,
        "answered 401",
      ],
      [
        "too many",
        { status: 429, headers: { "retry-after": "5" } },
        "retrying",
        429,
        "answered 429",
        { after: 5_000 },
      ],
    ],
  },
  zapier: {
    hooks: [
      { type: "zapier", webhook_url: "https://hooks.zapier.com/hooks/catch/1/secret/" },
      {
        type: "zapier",
        webhook_url: "https://hooks.zapier.com/hooks/catch/1/secret/",
        body: { what: "{{intent}}", to: "{{executor_id}}" },
      },
    ],
    good: { status: 200, body: { attempt: "a", id: "a", request_id: "a", status: "success" } },
    answers: [
      ["silent mode", { status: 200, body: "" }, "delivered", 200, null],
      ["unsubscribed", { status: 410 }, "failed", 410, "answered 410", { disabled: true }],
      [
        "too many",
        { status: 429, headers: { "retry-after": "300" }, body: { status: "throttled" } },
        "retrying",
        429,
        "answered 429",
        { after: 300_000 },
      ],
    ],
  },
  home_assistant: {
    hooks: [
      { type: "home_assistant", base_url: "https://ha.example:8123/", webhook_id: "secret/id" },
      {
        type: "home_assistant",
        url: "https://hooks.nabu.casa/secret",
        token: "llat",
        body: { door: "{{intent}}" },
      },
    ],
    good: { status: 200, body: "" },
    answers: [
      ["method not allowed", { status: 405 }, "failed", 405, "answered 405"],
      ["behind a broken proxy", { status: 502 }, "retrying", 502, "answered 502"],
    ],
  },
  todoist: {
    hooks: [
      { type: "todoist", token: "secret" },
      {
        type: "todoist",
        token: "secret",
        content: "Do: {{intent}}",
        description: "{{ref}} by {{requestor_id}}",
        project_id: "6XGgmFVcrG5RRjVr",
        labels: ["mess", "{{priority}}"],
        due_string: "today",
        priority_map: { normal: 4 },
      },
      { type: "todoist", token: "secret", action: "complete", task_id: "given/{{ref}}" },
    ],
    good: { status: 200, body: { id: "6X7rM8997g3RQmvh", content: "x" } },
    external: "6X7rM8997g3RQmvh",
    answers: [
      [
        "wrong argument",
        {
          status: 400,
          body: {
            error: "no",
            error_code: 20,
            error_tag: "INVALID_ARGUMENT_VALUE",
            http_code: 400,
          },
        },
        "failed",
        400,
        "answered 400: INVALID_ARGUMENT_VALUE",
      ],
      [
        "wrong token",
        { status: 401, body: { error_tag: "UNAUTHORIZED" } },
        "failed",
        401,
        "answered 401: UNAUTHORIZED",
      ],
      [
        "full",
        { status: 403, body: { error_tag: "MAX_ITEMS_LIMIT_REACHED" } },
        "failed",
        403,
        "answered 403: MAX_ITEMS_LIMIT_REACHED",
      ],
      [
        "too many",
        { status: 429, headers: { "retry-after": "66" }, body: { error_tag: "LIMITS_REACHED" } },
        "retrying",
        429,
        "answered 429: LIMITS_REACHED",
        { after: 66_000 },
      ],
      [
        "too many, said in the body",
        { status: 429, body: { error_tag: "LIMITS_REACHED", error_extra: { retry_after: 67 } } },
        "retrying",
        429,
        "answered 429: LIMITS_REACHED",
        { after: 67_000 },
      ],
      ["a retired endpoint", { status: 410 }, "failed", 410, "answered 410", { disabled: true }],
    ],
  },
  linear: {
    hooks: [
      { type: "linear", token: "lin_api_secret", team_id: "team-1" },
      {
        type: "linear",
        token: "oauth-secret",
        team_id: "team-1",
        title: "{{priority}}: {{intent}}",
        description: "{{ref}}",
        state_id: "state-1",
      },
      {
        type: "linear",
        token: "lin_api_secret",
        action: "complete",
        state_id: "done",
        issue_id: "MESS-{{priority}}",
      },
    ],
    good: { status: 200, body: { data: { issueCreate: { success: true, issue: { id: "x" } } } } },
    external: "ID",
    answers: [
      [
        "wrong key",
        linearError("AUTHENTICATION_ERROR", 401),
        "failed",
        401,
        "answered 401: AUTHENTICATION_ERROR",
      ],
      ["an error with 200", linearError("INPUT_ERROR"), "failed", 200, "answered 200: INPUT_ERROR"],
      [
        "too many",
        () => ({
          ...linearError("RATELIMITED", 400),
          headers: { "x-ratelimit-requests-reset": String(Date.now() + 90_000) },
        }),
        "retrying",
        400,
        "answered RATELIMITED",
        { after: 90_000 },
      ],
      [
        "refused",
        { status: 200, body: { data: { issueCreate: { success: false } } } },
        "retrying",
        200,
        "answered without a result",
      ],
      [
        "made by an attempt whose answer was lost",
        ({ body }) =>
          JSON.parse(body).query.startsWith("query")
            ? { status: 200, body: { data: { issue: { id: JSON.parse(body).variables.id } } } }
            : linearError("INPUT_ERROR", 200, "conflict on insert of Issue"),
        "delivered",
        200,
        null,
        { external: "ID" },
      ],
      [
        "a conflict with nothing",
        ({ body }) =>
          JSON.parse(body).query.startsWith("query")
            ? linearError("INPUT_ERROR", 400, "Entity not found: Issue")
            : linearError("INPUT_ERROR", 200, "conflict on insert of Issue"),
        "failed",
        400,
        "answered 400: INPUT_ERROR",
      ],
    ],
  },
  google_tasks: {
    hooks: [
      google,
      {
        ...google,
        tasklist: "a/b",
        title: "MESS: {{intent}}",
        notes: "Ref: {{ref}}\nPriority: {{priority}}",
        due: "2026-12-24",
      },
      { ...google, action: "complete", task_id: "given/{{ref}}" },
    ],
    good: withToken({ status: 200, body: { id: "MTA5", title: "x" } }),
    external: "MTA5",
    answers: [
      [
        "a revoked grant",
        {
          status: 400,
          body: { error: "invalid_grant", error_description: "Token has been expired or revoked." },
        },
        "failed",
        400,
        "answered 400: invalid_grant",
      ],
      [
        "an unknown client",
        { status: 401, body: { error: "invalid_client" } },
        "failed",
        401,
        "answered 401: invalid_client",
      ],
      ["a token endpoint that is down", { status: 503 }, "retrying", 503, "answered 503"],
      [
        "a token answer without a token",
        { status: 200, body: "<html>" },
        "retrying",
        200,
        "the token answer makes no sense",
      ],
      [
        "no such list",
        withToken({
          status: 404,
          body: { error: { code: 404, errors: [{ reason: "notFound" }] } },
        }),
        "failed",
        404,
        "answered 404: notFound",
      ],
      [
        "not allowed",
        withToken({
          status: 403,
          body: {
            error: {
              code: 403,
              status: "PERMISSION_DENIED",
              errors: [{ reason: "insufficientPermissions" }],
            },
          },
        }),
        "failed",
        403,
        "answered 403: insufficientPermissions",
      ],
      [
        "too many",
        withToken({
          status: 403,
          headers: { "retry-after": "9" },
          body: { error: { code: 403, errors: [{ reason: "rateLimitExceeded" }] } },
        }),
        "retrying",
        403,
        "answered 403: rateLimitExceeded",
        { after: 9_000 },
      ],
      ["too many, plainly", withToken({ status: 429 }), "retrying", 429, "answered 429"],
      [
        "a token that is refused",
        withToken({ status: 401, body: { error: { code: 401, status: "UNAUTHENTICATED" } } }),
        "failed",
        401,
        "answered 401: UNAUTHENTICATED",
      ],
    ],
  },
};

const outside = new Outside();
let exchange;
let drawn = 0;
before(async () => {
  exchange = await startExchange({ outside });
});
after(async () => {
  await exchange.assertSound();
  await exchange.stop();
});

/** An executor with one channel, or one hook on each of these events, in an exchange of its own. */
async function subscribe({ channel, hook }, events = ["created"]) {
  const name = `x${++drawn}`;
  // Access tokens are remembered by their credentials, which are of one test alone.
  if (hook?.refresh_token) hook = { ...hook, refresh_token: `${hook.refresh_token}-${drawn}` };
  const hooks = Object.fromEntries(events.map((event) => [`on_request_${event}`, hook && [hook]]));
  const agent = await exchange.register("agent", { exchange: name, display_name: "The Agent" });
  const phone = await exchange.register("phone", {
    exchange: name,
    display_name: "My Phone ☎",
    ...(channel ? { notifications: [channel] } : { hooks }),
  });
  return { agent, phone, name };
}

async function attempts(client, count) {
  let list = [];
  await exchange.eventually(async () => {
    list = (await client.get("executors/phone/deliveries")).body.deliveries;
    return list.length >= count;
  }, `${count} attempts`);
  return list;
}

/**
 * A request as the snapshot shows it: JSON is readable, and what differs from run to run has a
 * name instead.
 */
function shown({ body, ...request }) {
  let json;
  try {
    json = JSON.parse(body);
  } catch {}
  const content = JSON.stringify(json) === body ? { json } : { body };
  const text = JSON.stringify({ ...request, ...content })
    .replaceAll(/\d{4}-\d{2}-\d{2}-[0-9A-Z]{5}/g, "REF")
    .replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g, "ID")
    .replaceAll(/202\d-\d{2}-\d{2}T[0-9:.]+Z/g, (time) =>
      time.startsWith("2026-12-24") ? time : "TIME",
    )
    .replaceAll(/("webhook-timestamp":)"\d{10}"/g, '$1"SECONDS"')
    .replaceAll(/v1,[A-Za-z0-9+/]{43}=/g, "v1,SIGNATURE")
    .replaceAll(/refresh%2Dtoken%2D\d+/g, "REFRESH-TOKEN")
    .replaceAll(/("exchange_id":)"x\d+"/g, '$1"EXCHANGE"')
    .replaceAll(/mess-exchange\/[0-9.]+/g, "mess-exchange/VERSION");
  return JSON.parse(text);
}

const INTENT = 'Check "front" door 🚪 & <b>back</b>, {{ref}} 100%';

for (const [name, provider] of Object.entries(PROVIDERS)) {
  const subscriptions = [
    ...(provider.channels ?? []).map((channel) => ({ channel })),
    ...(provider.hooks ?? []).map((hook) => ({ hook })),
  ];

  test(`${name}: what is sent`, async (t) => {
    outside.react = typeof provider.good === "function" ? provider.good : () => provider.good;
    const seen = [];
    for (const subscription of subscriptions) {
      const { agent, phone } = await subscribe(subscription);
      const ref = await agent.ask(INTENT, { priority: "elevated" });
      await attempts(phone, 1);
      seen.push({ subscription, created: outside.take().map(shown) });
      if (subscription.channel) {
        await agent.patch(`requests/${ref}`, { mess: [{ note: "hello" }] });
        await attempts(phone, 2);
        seen.at(-1).message = outside.take().map(shown);
        await agent.patch(`requests/${ref}`, { status: "cancelled" });
        await attempts(phone, 3);
        seen.at(-1).cancelled = outside.take().map(shown);
      }
    }
    t.assert.snapshot(seen);
  });

  test(`${name}: success`, async () => {
    outside.react = typeof provider.good === "function" ? provider.good : () => provider.good;
    const { agent, phone, name: exchangeId } = await subscribe(subscriptions[0]);
    const ref = await agent.ask("Check front door");
    const [attempt] = await attempts(phone, 1);
    assert.equal(attempt.outcome, "delivered");
    assert.equal(attempt.ref, ref);
    assert.equal(attempt.event, "created");
    assert.equal(attempt.attempt, 1);
    assert.equal(attempt.error, null);
    const kept = [...(await exchange.objects(`external/exchange=${exchangeId}/${ref}/`)).values()];
    const expected = provider.external === "ID" ? attempt.delivery_id : provider.external;
    const external = expected && [JSON.stringify({ external_id: expected })];
    assert.deepEqual(kept, external ?? [], "the provider's id is kept");
    outside.take();
  });

  const common = [
    [
      "a broken server",
      { status: 500, body: "<html>Oops</html>" },
      "retrying",
      500,
      "answered 500",
    ],
    ["a closed connection", HANG_UP, "retrying", null, "the connection failed"],
  ];
  for (const [what, reaction, outcome, status, error, more = {}] of [
    ...provider.answers,
    ...common,
  ]) {
    test(`${name}: ${what}`, async () => {
      outside.react = typeof reaction === "function" ? reaction : () => reaction;
      const { agent, phone, name: exchangeId } = await subscribe(subscriptions[0]);
      const ref = await agent.ask("Check front door");
      const [attempt] = await attempts(phone, 1);
      assert.deepEqual([attempt.outcome, attempt.status, attempt.error], [outcome, status, error]);
      const wait = Date.parse(attempt.next_attempt_at) - Date.parse(attempt.at);
      if (outcome === "retrying") {
        const expected = more.after ?? 5_000;
        assert.ok(wait >= expected - 1_000 && wait <= expected * 1.1 + 1_000, `${wait} ms`);
      } else {
        assert.equal(attempt.next_attempt_at, null);
      }
      const { executor } = (await phone.get("executors/phone")).body;
      const entry = executor.notifications[0] ?? executor.hooks.on_request_created[0];
      await exchange.eventually(async () => {
        const stored = (
          await exchange.objects(`executors/exchange=${exchangeId}/phone.json`)
        ).values();
        return [...stored].join("").includes('"disabled":{') === Boolean(more.disabled);
      }, "disabling");
      assert.equal(entry.last.outcome, outcome);
      if (more.external) {
        const [kept] = (await exchange.objects(`external/exchange=${exchangeId}/${ref}/`)).values();
        const expected = more.external === "ID" ? attempt.delivery_id : more.external;
        assert.deepEqual(JSON.parse(kept), { external_id: expected });
      }
      outside.take();
    });
  }
}

test("nothing secret was logged", () => {
  const logs = JSON.stringify(exchange.logs);
  for (const secret of ["secret", "se-cr_et", "llat", "whsec", "refresh-token", "access-token"]) {
    assert.ok(!logs.includes(secret), secret);
  }
});
