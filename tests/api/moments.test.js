// What happens because a moment has come: deadlines, leases, announcements. The tick comes when a
// test says so; where a request itself must meet the moment, the test waits for it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { HOUR, MINUTE, startExchange } from "../support/exchange.js";

let exchange;
let agent;
let phone;
let tablet;
before(async () => {
  exchange = await startExchange();
  agent = await exchange.register("agent");
  phone = await exchange.register("phone");
  tablet = await exchange.register("tablet");
});
after(() => exchange.stop());

const inMs = (ms) => new Date(Date.now() + ms).toISOString();
const read = async (ref) => (await agent.get(`requests/${ref}`)).body.thread;
const claim = (client, ref, more = {}) =>
  client.patch(`requests/${ref}`, { status: "claimed", ...more });

async function lastChange(ref) {
  await exchange.rest();
  const lines = (await exchange.log()).filter(
    (line) => line.thread_ref === ref && line.event_type === "status_changed",
  );
  return lines.sort((a, b) => (a.ts < b.ts ? -1 : 1)).at(-1);
}

test("nobody claims it in time: reads say so at once, lists after a tick", async () => {
  const ref = await agent.ask("Before bed", { needed_by: inMs(1_500) });
  const fresh = await agent.get(`requests/${ref}`);
  assert.equal(fresh.headers.get("ETag"), '"1"');
  assert.equal((await agent.list("status=pending")).includes(ref), true);
  await sleep(1_600);
  const read = await agent.get(`requests/${ref}`, { "If-None-Match": '"1"' });
  assert.equal(read.status, 200, "a 304 would hide it");
  assert.equal(read.headers.get("ETag"), '"1-due"');
  assert.deepEqual([read.body.thread.status, read.body.thread.version], ["expired", 1]);
  assert.equal((await agent.get(`requests/${ref}`, { "If-None-Match": '"1-due"' })).status, 200);
  assert.equal((await agent.list("status=pending")).includes(ref), false);
  const late = await claim(phone, ref);
  assert.equal(late.status, 409);
  assert.deepEqual([late.body.code, late.body.status], ["ended", "expired"]);
  const stale = await phone.patch(
    `requests/${ref}`,
    { mess: [{ note: 1 }] },
    { "If-Match": '"1"' },
  );
  assert.equal(stale.status, 412);
  await exchange.tick();
  await exchange.rest();
  assert.deepEqual(await agent.list("status=expired"), [ref]);
  const after = await agent.get(`requests/${ref}`, { "If-None-Match": '"1-due"' });
  assert.deepEqual([after.status, after.headers.get("ETag")], [200, '"2"']);
  const { actor_id, payload } = await lastChange(ref);
  assert.equal(actor_id, "exchange");
  assert.deepEqual(payload, {
    old_status: "pending",
    new_status: "expired",
    executor_id: null,
    reason: "not_claimed_in_time",
  });
});

test("a claim against the deadline: one of the two, and the log says which", async () => {
  const refs = await Promise.all(
    Array.from({ length: 6 }, (_, n) => agent.ask(`Race ${n}`, { needed_by: inMs(1_000) })),
  );
  await sleep(900);
  const answers = await Promise.all([
    ...refs.map(async (ref, n) => {
      await sleep(n * 30);
      return claim(phone, ref);
    }),
    ...[60, 130, 220].map(async (ms) => {
      await sleep(ms);
      await exchange.tick();
    }),
  ]);
  await exchange.tick();
  await exchange.rest();
  await exchange.assertSound();
  for (const [n, ref] of refs.entries()) {
    const won = answers[n].status === 200;
    assert.ok(won || answers[n].body.code === "ended", answers[n].text);
    assert.equal((await read(ref)).status, won ? "claimed" : "expired");
  }
});

test("needed_by must be a moment to come, with its offset", async () => {
  for (const needed_by of [inMs(-1), "2099-01-01T00:00:00", "2099-01-01", "tomorrow", 5]) {
    const answer = await agent.post("requests", { intent: "x", needed_by });
    assert.equal(answer.status, 400, needed_by);
    assert.equal(answer.body.field, "needed_by");
  }
  const ref = await agent.ask("Later", { needed_by: "2099-01-01T00:00:00+14:00" });
  const thread = await read(ref);
  assert.equal(thread.needed_by, "2098-12-31T10:00:00.000Z");
  assert.equal(thread.messages[0].mess[0].request.needed_by, "2099-01-01T00:00:00+14:00");
  const { threads } = (await agent.get("requests?limit=1")).body;
  assert.equal(threads[0].needed_by, thread.needed_by);
});

test("a claim lapses when its lease ends, and the next one takes it", async () => {
  const ref = await agent.ask("Hold");
  const claimed = await claim(phone, ref, { lease: "PT30M" });
  const until = Date.parse(claimed.body.lease_until);
  assert.ok(Math.abs(until - Date.now() - 30 * MINUTE) < MINUTE, claimed.text);
  const refused = await claim(tablet, ref);
  assert.equal(refused.status, 409);
  assert.equal(refused.body.lease_until, claimed.body.lease_until);
  assert.match(refused.body.error, /^phone holds this request until 2/);
  await exchange.tick(until - MINUTE);
  assert.equal((await read(ref)).status, "claimed");
  await exchange.tick(until + MINUTE);
  const lapsed = await read(ref);
  assert.deepEqual(
    [lapsed.status, lapsed.executor_id, lapsed.lease_until],
    ["pending", null, undefined],
  );
  const { actor_id, payload } = await lastChange(ref);
  assert.deepEqual(
    [actor_id, payload.old_status, payload.reason],
    ["exchange", "claimed", "lease_ended"],
  );
  assert.equal((await claim(tablet, ref)).status, 200);
});

test("the holder renews its claim, and nobody else", async () => {
  const ref = await agent.ask("Renew");
  const renew = (client, body) => client.post(`requests/${ref}/lease`, body);
  const early = await renew(phone);
  assert.deepEqual([early.status, early.body.code], [409, "not_claimed"]);
  await claim(phone, ref, { lease: "PT10M" });
  const renewed = await renew(phone, { lease: "PT1H" });
  assert.equal(renewed.status, 200, renewed.text);
  const until = Date.parse(renewed.body.lease_until);
  assert.ok(until > Date.now() + 59 * MINUTE);
  const again = await renew(phone);
  assert.ok(Date.parse(again.body.lease_until) >= until, "without a body, for as long as before");
  const refused = await renew(tablet);
  assert.deepEqual([refused.status, refused.body.code], [409, "held_by_other"]);
  const said = await phone.patch(`requests/${ref}`, { mess: [{ note: "half way" }] });
  assert.ok(said.body.lease_until >= again.body.lease_until, "whatever it does renews it");
  assert.equal((await renew(phone, { lease: "PT1S" })).body.field, "lease");
  await phone.patch(`requests/${ref}`, { status: "completed" });
  assert.equal((await renew(phone)).body.code, "ended");
});

test("a renewal against the end of the lease: one of the two", async () => {
  const refs = await Promise.all(Array.from({ length: 4 }, (_, n) => agent.ask(`Lapse ${n}`)));
  for (const ref of refs) await claim(phone, ref, { lease: "PT5M" });
  await exchange.rest();
  const at = Date.now() + 5 * MINUTE + 1_000;
  const [, ...answers] = await Promise.all([
    exchange.tick(at),
    ...refs.map((ref) => phone.post(`requests/${ref}/lease`)),
  ]);
  const states = await Promise.all(refs.map(read));
  // To that tick the renewals' own obligations were long overdue: it keeps them for an hour.
  await exchange.tick(at + HOUR);
  await exchange.rest();
  const log = await exchange.log();
  for (const [n, ref] of refs.entries()) {
    // The tick's moment is past any lease that was renewed before it: it ends the claim, unless
    // the renewal came when the tick had read the request and was done with it.
    const renewed = answers[n].status === 200;
    if (!renewed) assert.equal(answers[n].body.code, "not_claimed");
    assert.ok(renewed || states[n].status === "pending", states[n].status);
    const changes = log.filter((line) => line.thread_ref === ref && line.payload.old_status);
    const lapses = changes.filter(({ payload }) => payload.reason === "lease_ended");
    assert.equal(lapses.length, 1, "at that tick or at the next");
    assert.equal(changes.length, renewed ? 3 : 2);
  }
});

test("what presses is announced again, and what does not is not", async () => {
  const urgent = await agent.ask("Water!", { priority: "urgent" });
  const normal = await agent.ask("Some time");
  await exchange.rest();
  const nudges = async () =>
    (await exchange.log())
      .filter(({ payload }) => payload.reason === "still_open")
      .map((line) => [line.thread_ref, line.actor_id, line.payload.nudge]);
  await exchange.tick(Date.now() + 16 * MINUTE);
  await exchange.rest();
  assert.deepEqual(await nudges(), [[urgent, "exchange", 1]]);
  await exchange.tick(Date.now() + 61 * MINUTE);
  await exchange.tick(Date.now() + 300 * MINUTE);
  await exchange.rest();
  const all = await nudges();
  assert.deepEqual(all.map(([ref, , count]) => [ref, count]).sort(), [
    [urgent, 1],
    [urgent, 2],
  ]);
  assert.equal((await read(urgent)).status, "pending");
  assert.equal((await read(normal)).version, 1);
});
