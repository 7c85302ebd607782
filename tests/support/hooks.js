// The hook types, with the answers of their providers as documented.

import { SECRET } from "./channels.js";

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
 * As for channels; `external` is the id that the provider's good answer gives, `malformed` what
 * comes of a 200 that is no JSON, where that is not enough.
 */
export const HOOKS = {
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
    malformed: ["retrying", 200, "answered without a result"],
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
    malformed: ["retrying", 200, "the token answer makes no sense"],
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
