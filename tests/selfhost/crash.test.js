// kill -9, again and again, under a mixed load of 16 clients: everything that was acknowledged is
// there at the end, once. MESS_KILLS is how often for each kind of bucket (`npm run test:crash`).

import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startMiniflareS3 } from "../support/s3.js";
import { openDirectory, SelfHosted } from "../support/selfhosted.js";

const KILLS = Number(process.env.MESS_KILLS || 20);
const CLIENTS = 16;
/** Milliseconds of load before a kill. */
const LOAD = [20, 1_000];

/** What the exchange has acknowledged: the requests, and what was done to each. */
class Acknowledged {
  refs = new Map();

  posted(ref, intent) {
    this.refs.set(ref, { intent, notes: [], statuses: [] });
  }

  /** The statuses and notes that a thread must show, in whatever order others came between. */
  assertIn(ref, thread, changes) {
    const { intent, notes, statuses } = this.refs.get(ref);
    assert.equal(thread.intent, intent);
    const found = thread.messages.flatMap(({ mess }) => mess.map(({ note }) => note));
    for (const note of notes) {
      assert.equal(found.filter((other) => other === note).length, 1, `${note} of ${ref}`);
    }
    for (const { status, by } of statuses) {
      const same = changes.filter(
        ({ actor_id, payload }) => actor_id === by && payload.new_status === status,
      );
      assert.equal(same.length, 1, `${ref} ${status} by ${by}`);
    }
  }

  count() {
    const all = [...this.refs.values()];
    return all.reduce((sum, { notes, statuses }) => sum + 1 + notes.length + statuses.length, 0);
  }
}

/** One client's endless work; ends when the exchange does not answer any more. */
async function work(client, name, acknowledged, round) {
  for (let turn = 0; ; turn += 1) {
    const intent = `Errand ${name}.${round}.${turn}`;
    // Some with a deadline, and claims with a lease: they owe timers.
    const deadline = turn % 3 === 0 ? { needed_by: "2199-01-01T00:00:00Z" } : {};
    const posted = await client.post("requests", { intent, ...deadline });
    if (posted.status === 201) acknowledged.posted(posted.body.ref, intent);
    const refs = [...acknowledged.refs.keys()];
    const ref = refs[Math.floor(Math.random() * refs.length)];
    if (!ref) continue;
    const note = crypto.randomUUID();
    const said = await client.patch(`requests/${ref}`, { mess: [{ note }] });
    if (said.status === 200) acknowledged.refs.get(ref).notes.push(note);
    for (const status of ["claimed", "in-progress", "completed"]) {
      const lease = status === "claimed" ? { lease: "P1D" } : {};
      const changed = await client.patch(`requests/${ref}`, { status, ...lease });
      if (changed.status !== 200) break;
      acknowledged.refs.get(ref).statuses.push({ status, by: name });
    }
  }
}

for (const [kind, openStore] of [
  ["a directory", openDirectory],
  ["S3", startMiniflareS3],
]) {
  test(`${KILLS} kills under load, on ${kind}`, {
    timeout: 120_000 + KILLS * 15_000,
  }, async (t) => {
    const exchange = await SelfHosted.start(await openStore(), { LIMITS: "off" });
    t.after(() => exchange.stop());
    const acknowledged = new Acknowledged();
    const names = Array.from({ length: CLIENTS }, (_, n) => `worker-${n}`);
    const clients = await Promise.all(names.map((name) => exchange.register(name)));
    let unfinished = 0;
    for (let round = 0; round < KILLS; round += 1) {
      const working = clients.map((client, n) =>
        // Whatever was under way is neither acknowledged nor refused.
        work(client, names[n], acknowledged, round).catch(() => {}),
      );
      await sleep(LOAD[0] + Math.random() * (LOAD[1] - LOAD[0]));
      await exchange.kill();
      await Promise.all(working);
      if (exchange.store.folder) {
        unfinished += globSync(join(exchange.store.folder, "**/.*.tmp")).length;
      }
      await exchange.begin();
    }
    t.diagnostic(
      `${acknowledged.count()} changes of ${acknowledged.refs.size} requests were acknowledged`,
    );
    t.diagnostic(`${unfinished} files were left unfinished`);
    assert.ok(acknowledged.count() > KILLS * 5, "there was hardly any load");

    // What was under way is looked at for the last time when it is an hour old.
    let at = Date.now();
    for (const minutes of [62, 65, 1_600]) {
      at = Date.now() + minutes * 60_000;
      do await exchange.tick(at);
      while (await isDue(exchange, at));
    }
    assert.deepEqual(await exchange.owed(), []);
    const report = await exchange.assertSound(at);
    const log = await exchange.log();
    assert.equal(new Set(log.map(({ event_id }) => event_id)).size, log.length, "no event twice");
    const changesOf = Map.groupBy(
      log.filter(({ event_type }) => event_type === "status_changed"),
      ({ thread_ref }) => thread_ref,
    );
    const listed = new Set(await clients[0].list("limit=1000"));
    assert.equal(listed.size, report.threads);
    for (const ref of acknowledged.refs.keys()) {
      assert.ok(listed.has(ref), `${ref} is not listed`);
      const { body } = await clients[0].get(`requests/${ref}`);
      acknowledged.assertIn(ref, body.thread, changesOf.get(ref) ?? []);
    }
  });
}

/** Whether anything that is owed is due by then. */
async function isDue(exchange, at) {
  const keys = [...(await exchange.objects("due/")).keys()];
  return keys.some((key) => Number(/(\d{13})-/.exec(key)?.[1]) <= at);
}
