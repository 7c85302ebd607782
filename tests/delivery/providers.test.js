// Each channel and each hook type against a receiver that answers as its documentation says:
// what exactly is sent, and what becomes of it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { CHANNELS } from "../support/channels.js";
import { startExchange } from "../support/exchange.js";
import { HOOKS } from "../support/hooks.js";
import { HANG_UP, Outside } from "../support/outside.js";

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

for (const [name, provider] of Object.entries({ ...CHANNELS, ...HOOKS })) {
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
    [
      "a malformed answer",
      { status: 200, body: '{"id": {"' },
      ...(provider.malformed ?? ["delivered", 200, null]),
    ],
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
