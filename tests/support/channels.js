// The channels, with the answers of their providers as documented.

export const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/**
 * For each provider: configurations whose requests are held against the snapshot, and answers
 * with what is to come of them, as [name, reaction, outcome, status, error, more].
 */
export const CHANNELS = {
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
};
