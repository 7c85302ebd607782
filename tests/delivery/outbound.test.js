// Where deliveries may go, and what templates may carry there.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExchange } from "../support/exchange.js";
import { Outside } from "../support/outside.js";

const outside = new Outside();
let exchange;
before(async () => {
  exchange = await startExchange({ outside });
});
after(() => exchange.stop());

const FORBIDDEN = [
  "http://127.0.0.1/",
  "http://127.1/",
  "http://2130706433/",
  "http://0x7f000001/",
  "http://0177.0.0.1/",
  "http://0/",
  "http://10.0.0.1/",
  "http://172.16.0.1/",
  "http://192.168.0.1/",
  "http://169.254.169.254/latest/meta-data/",
  "http://100.64.0.1/",
  "http://[::1]/",
  "http://[::ffff:127.0.0.1]/",
  "http://[::ffff:a9fe:a9fe]/",
  "http://[64:ff9b::a00:1]/",
  "http://[2002:7f00:1::]/",
  "http://[fd00::1]/",
  "http://[fe80::1]/",
  "http://localhost/",
  "http://localhost./",
  "http://x.localhost/",
  "http://printer.local/",
  "http://metadata.google.internal/",
  "http://router/",
  "http://１２７.0.0.1/",
  "http://%6cocalhost/",
  "https://user:pass@example.com/",
  "ftp://example.com/",
  "file:///etc/passwd",
  "javascript:alert(1)",
  "//example.com/",
  "https://",
  "https://{{intent}}/",
  "https://example.com:{{ref}}/",
  "https:{{intent}}.example.com/",
  "https:\\\\{{intent}}.example.com\\x",
  "https://example.com/a/../b",
  "https://example.com/%2e%2E/b",
];

test("an address that must not be called is refused where it is given", async () => {
  const nobody = exchange.client();
  for (const url of FORBIDDEN) {
    for (const [profile, field] of [
      [{ notifications: [{ type: "webhook", url }] }, "notifications[0].url"],
      [{ notifications: [{ type: "slack", webhook_url: url }] }, "notifications[0].webhook_url"],
      [{ notifications: [{ type: "ntfy", topic: "t", server: url }] }, "notifications[0].server"],
      [
        { hooks: { on_request_created: [{ type: "webhook", url }] } },
        "hooks.on_request_created[0].url",
      ],
      [
        {
          hooks: {
            on_request_claimed: [{ type: "home_assistant", base_url: url, webhook_id: "w" }],
          },
        },
        "hooks.on_request_claimed[0].base_url",
      ],
    ]) {
      const answer = await nobody.post("register", { executor_id: "phone", ...profile });
      assert.equal(answer.status, 400, `${url} as ${field}`);
      assert.equal(answer.body.field, field, url);
      assert.ok(!answer.text.includes("pass@"));
    }
  }
});

test("and is not called if it is in a record all the same", async () => {
  const agent = await exchange.register("agent", { exchange: "stored" });
  const phone = await exchange.register("phone", { exchange: "stored" });
  const key = "executors/exchange=stored/phone.json";
  const bucket = await exchange.bucket();
  const record = JSON.parse(await (await bucket.get(key)).text());
  record.notifications = FORBIDDEN.slice(0, 20).map((url) => ({ type: "webhook", url }));
  await bucket.put(key, JSON.stringify(record));
  await agent.ask("Check front door");
  let list = [];
  await exchange.eventually(async () => {
    list = (await phone.get("executors/phone/deliveries")).body.deliveries;
    return list.length === 20;
  }, "attempts");
  for (const { outcome, error } of list) {
    assert.deepEqual([outcome, error], ["failed", "the URL may not be called"]);
  }
  assert.equal(outside.take().length, 0);
});

test("a home may call itself", async () => {
  const reached = new Outside();
  const vars = { OUTBOUND_ALLOW_PRIVATE: "true" };
  const home = await startExchange({ vars, outside: reached });
  try {
    const agent = await home.register("agent");
    await home.register("phone", {
      notifications: [{ type: "webhook", url: "http://127.0.0.1:8009/" }],
      hooks: {
        on_request_created: [
          { type: "home_assistant", base_url: "http://homeassistant.local:8123", webhook_id: "w" },
        ],
      },
    });
    await agent.ask("Check front door");
    const hosts = (await reached.expect(2)).map(({ host }) => host).sort();
    assert.deepEqual(hosts, ["127.0.0.1:8009", "homeassistant.local:8123"]);
  } finally {
    await home.stop();
  }
});

test("templates with unknown variables, zones and times that are none are refused", async () => {
  const nobody = exchange.client();
  const hook = (fields) => ({ hooks: { on_request_created: [{ type: "webhook", ...fields }] } });
  const at = "hooks.on_request_created[0]";
  for (const [profile, field, word] of [
    [hook({ url: "https://a.example/{{nope}}" }), `${at}.url`, "{{nope}}"],
    [
      hook({ url: "https://a.example/", body: { a: [{ b: "{{ what }}" }] } }),
      `${at}.body.a[0].b`,
      "{{what}}",
    ],
    [hook({ url: "https://a.example/", headers: { A: "{{Ref}}" } }), `${at}.headers.A`, "{{Ref}}"],
    [hook({ url: "https://a.example/", secret: "hush" }), `${at}.secret`, "whsec_"],
    [hook({ url: "https://a.example/", method: "TRACE" }), `${at}.method`, "GET"],
    [
      { preferences: { quiet_hours: { timezone: "Mars/Olympus" } } },
      "preferences.quiet_hours.timezone",
      "IANA",
    ],
    [
      { preferences: { quiet_hours: { timezone: "+02:00" } } },
      "preferences.quiet_hours.timezone",
      "IANA",
    ],
    [
      { preferences: { quiet_hours: { enabled: true, start: "7:00", end: "22:00" } } },
      "preferences.quiet_hours.start",
      "time",
    ],
    [{ notifications: [{ type: "ntfy", topic: "a b" }] }, "notifications[0].topic", "letters"],
  ]) {
    const answer = await nobody.post("register", { executor_id: "phone", ...profile });
    assert.equal(answer.status, 400, JSON.stringify(profile));
    assert.equal(answer.body.field, field);
    assert.ok(answer.body.error.includes(word), answer.body.error);
  }
});

// Control characters are refused in intents; a display name and the rest are as hostile as they get.
const HOSTILE = [
  `quotes " and ' and \\ and \\" and \\u0000`,
  "braces {{ref}} {{intent}} {{{ref}}} }} {{ {% if %}",
  "line\u2028separators\u2029and\u00a0spaces",
  "%0d%0aX-Injected: yes %00 ../.. ?a=b&c=d#e",
  "<!channel> <@U123> <users/all> <script>alert(1)</script> &amp;",
  "🚪".repeat(2_500) + "é".repeat(7_500),
];

test("whatever a request says, it arrives as data in each place of a hook", async () => {
  const json = { "Content-Type": "application/json" };
  const form = { "Content-Type": "application/x-www-form-urlencoded" };
  const hooks = {
    url: { type: "webhook", url: "https://url.example/a/{{intent}}/b?q={{intent}}" },
    header: {
      type: "webhook",
      url: "https://header.example/",
      headers: { "X-Intent": "{{ref}} {{executor_name}}" },
    },
    value: {
      type: "webhook",
      url: "https://value.example/",
      body: { "{{intent}}": ["{{intent}}", { deep: "<{{intent}}>" }] },
    },
    json: {
      type: "webhook",
      url: "https://json.example/",
      headers: json,
      body: '{"a": "{{intent}}"}',
    },
    form: {
      type: "webhook",
      url: "https://form.example/",
      headers: form,
      body: "a={{intent}}&b=1",
    },
    text: { type: "webhook", url: "https://text.example/", body: "{{intent}}" },
    ifttt: { type: "ifttt", key: "k", event: "{{intent}}", value1: "{{intent}}" },
    zapier: {
      type: "zapier",
      webhook_url: "https://hooks.zapier.com/x",
      body: { a: "{{intent}}" },
    },
    ha: { type: "home_assistant", url: "https://ha.example/{{intent}}" },
    todoist: {
      type: "todoist",
      token: "t",
      content: "{{intent}}",
      description: "{{intent}}",
      labels: ["{{intent}}"],
    },
    linear: {
      type: "linear",
      token: "t",
      team_id: "t",
      title: "{{intent}}",
      description: "{{intent}}",
    },
    google: {
      type: "google_tasks",
      client_id: "c",
      client_secret: "c",
      refresh_token: "c",
      title: "{{intent}}",
      notes: "{{intent}}",
    },
  };
  outside.react = () => ({
    status: 200,
    body: { access_token: "a", expires_in: 3600, id: "1", data: {} },
  });
  const agent = await exchange.register("agent", { exchange: "hostile" });
  const phone = await exchange.register("phone", {
    exchange: "hostile",
    notifications: [
      { type: "ntfy", topic: "t" },
      { type: "slack", webhook_url: "https://hooks.slack.com/x" },
      { type: "google_chat", webhook_url: "https://chat.googleapis.com/x" },
    ],
    hooks: { on_request_created: Object.values(hooks) },
  });
  let asked = 0;
  for (const intent of HOSTILE) {
    await agent.ask(intent);
    asked += 15;
    let list = [];
    await exchange.eventually(async () => {
      list = (await phone.get("executors/phone/deliveries")).body.deliveries;
      return list.length >= Math.min(asked, 100) && (await exchange.owed()).length === 0;
    }, "all deliveries");
    // Only a URL has no room for it.
    const tooLong = list.slice(0, 15).filter(({ outcome }) => outcome !== "delivered");
    const inUrl = intent.length > 5_000 ? ["home_assistant", "ifttt", "webhook"] : [];
    assert.deepEqual(tooLong.map(({ type }) => type).sort(), inUrl);
    for (const { outcome, error } of tooLong) {
      assert.deepEqual([outcome, error], ["failed", "the URL is too long to be sent"]);
    }
    const sent = outside.take();
    const of = (host) => sent.find((request) => request.host === host);
    const body = (host) => JSON.parse(of(host).body);
    const shortened = (text, most) =>
      [...text].length > most ? `${[...text].slice(0, most - 1).join("")}…` : text;
    assert.deepEqual(body("value.example"), { "{{intent}}": [intent, { deep: `<${intent}>` }] });
    assert.deepEqual(body("json.example"), { a: intent });
    assert.deepEqual(
      [...new URLSearchParams(of("form.example").body)],
      [
        ["a", intent],
        ["b", "1"],
      ],
    );
    assert.equal(of("text.example").body, intent);
    assert.deepEqual(body("hooks.zapier.com"), { a: intent });
    assert.equal(body("api.todoist.com").content, shortened(intent, 500));
    assert.deepEqual(body("api.todoist.com").labels, [intent]);
    assert.equal(body("api.linear.app").variables.input.title, shortened(intent, 255));
    assert.equal(body("api.linear.app").variables.input.description, intent);
    assert.equal(body("tasks.googleapis.com").title, shortened(intent, 1_024));
    assert.equal(body("tasks.googleapis.com").notes, shortened(intent, 8_192));
    const ntfy = body("ntfy.sh").message;
    assert.ok(Buffer.byteLength(ntfy) < 4_096 && Buffer.byteLength(of("ntfy.sh").body) < 8_192);
    assert.ok(ntfy.startsWith([...intent].slice(0, 500).join("")));
    const slack = body("hooks.slack.com");
    assert.ok(slack.blocks[1].text.text.length <= 3_000);
    assert.ok(!/<[!@s]/.test(slack.text));
    assert.ok(Buffer.byteLength(of("chat.googleapis.com").body) < 32_000);
    assert.ok(!of("chat.googleapis.com").body.includes("<users/"));
    if (inUrl.length > 0) continue;
    const url = new URL(of("url.example").path, "https://url.example");
    assert.equal(decodeURIComponent(url.pathname.split("/")[2]), intent);
    assert.equal(url.pathname.split("/").length, 4);
    assert.deepEqual([...url.searchParams], [["q", intent]]);
    assert.equal(of("url.example").headers["x-injected"], undefined);
    assert.deepEqual(body("maker.ifttt.com").value1, intent);
    const trigger = of("maker.ifttt.com").path.split("/");
    assert.deepEqual([trigger.length, trigger[5]], [6, "k"]);
    assert.equal(decodeURIComponent(of("ha.example").path.slice(1)), intent);
  }
});

test("a request cannot climb out of a hook's path, nor blow a hook up", async () => {
  outside.react = () => ({ status: 200 });
  const hook = (url, more) => ({ type: "webhook", url, ...more });
  const agent = await exchange.register("agent", { exchange: "climb" });
  const phone = await exchange.register("phone", {
    exchange: "climb",
    hooks: {
      on_request_created: [
        hook("https://a.example/items/{{intent}}/tags", { method: "DELETE" }),
        hook("https://a.example/items/.{{intent}}/tags"),
        hook("https://big.example/", { body: Array(500).fill("{{intent}}") }),
        hook("https://json.example/", { body: '{"a": "{{intent}}"}' }),
        { type: "zapier", webhook_url: "https://z.example/", headers: { "X-Secret": "hidden" } },
      ],
    },
  });
  let asked = 0;
  const outcomes = async (intent) => {
    await agent.ask(intent);
    asked += 5;
    let list = [];
    await exchange.eventually(async () => {
      list = (await phone.get("executors/phone/deliveries")).body.deliveries;
      return list.length === asked;
    }, "five more attempts");
    const last = new Map(list.slice(0, 5).map((attempt) => [attempt.subscription, attempt]));
    const { executor } = (await phone.get("executors/phone")).body;
    return executor.hooks.on_request_created.map(({ id }) => last.get(id).error);
  };
  const no = "the URL may not be called";
  assert.deepEqual(await outcomes(".."), [no, null, null, null, null]);
  assert.deepEqual(await outcomes("."), [no, no, null, null, null]);
  assert.equal((await outcomes("x".repeat(9_999)))[2], "what would be sent is too large");
  outside.take();
  assert.deepEqual(await outcomes('x", "b": "y'), [null, null, null, null, null]);
  const sent = outside.take();
  const json = sent.find(({ host }) => host === "json.example");
  assert.deepEqual(JSON.parse(json.body), { a: 'x", "b": "y' });
  assert.equal(json.headers["content-type"], "application/json");
  const zapier = sent.find(({ host }) => host === "z.example");
  assert.equal(zapier.headers["x-secret"], undefined, "a field that the form does not have");
});

test("a profile of braces or of many values costs nobody anything", async () => {
  const nobody = exchange.client();
  const hook = (fields) => ({
    hooks: { on_request_created: [{ type: "todoist", token: "t", ...fields }] },
  });
  const braces = { executor_id: "braces", ...hook({ content: "{".repeat(200_000) }) };
  assert.equal((await nobody.post("register", braces)).status, 201);
  const many = { executor_id: "many", ...hook({ labels: Array(6_000).fill("x") }) };
  const answer = await nobody.post("register", many);
  assert.equal(answer.status, 400);
  assert.equal(answer.body.field, "hooks");
});

test("the runtime's time zones are those of the IANA", async () => {
  const moments = [];
  // In years whose rules are known to every version of the database.
  for (let day = 0; day < 3 * 366; day += 7) moments.push(Date.UTC(2021, 0, 1 + day, day % 24));
  const offsetOf = (zone, at) => {
    const wall = new Date(at).toLocaleString("sv-SE", { timeZone: zone });
    return Date.parse(`${wall.replace(" ", "T")}Z`) - at;
  };
  for (const zone of [...Intl.supportedValuesOf("timeZone"), "UTC", "europe/berlin"]) {
    const offsets = await exchange.tool(
      `/offset?zone=${encodeURIComponent(zone)}&at=${moments.join(",")}`,
    );
    assert.deepEqual(
      offsets,
      moments.map((at) => offsetOf(zone, at)),
      zone,
    );
  }
  for (const none of ["", "Mars/Olympus", "+02:00", "x".repeat(300), "Europe/Berlin "]) {
    const offsets = await exchange.tool(`/offset?zone=${encodeURIComponent(none)}&at=0`);
    assert.deepEqual(offsets, [null], none);
  }
});
