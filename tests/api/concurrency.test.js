// Many at once, over HTTP.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExchange } from "../support/exchange.js";

let exchange;
before(async () => {
  exchange = await startExchange();
});
after(() => exchange.stop());

test("64 claims of one request: one wins", async () => {
  const agent = await exchange.register("agent");
  const phones = await Promise.all(
    Array.from({ length: 64 }, (_, n) => exchange.register(`phone-${n}`)),
  );
  const ref = await agent.ask("Who comes?");
  const answers = await Promise.all(
    phones.map((phone) => phone.patch(`requests/${ref}`, { status: "claimed" })),
  );
  const won = answers.flatMap((answer, n) => (answer.status === 200 ? [`phone-${n}`] : []));
  assert.equal(won.length, 1);
  const lost = answers.filter((answer) => answer.status === 409);
  assert.equal(lost.length, 63);
  for (const answer of lost) assert.equal(answer.body.executor_id, won[0]);
  await exchange.rest();
  const changes = (await exchange.log()).filter((event) => event.event_type === "status_changed");
  assert.equal(changes.length, 1);
  assert.equal(changes[0].actor_id, won[0]);
  await exchange.assertSound();
});

test("32 registrations of one id: one wins", async () => {
  const nobody = exchange.client();
  const answers = await Promise.all(
    Array.from({ length: 32 }, () => nobody.post("register", { executor_id: "wanted" })),
  );
  const won = answers.filter((answer) => answer.status === 201);
  assert.equal(won.length, 1);
  assert.equal(answers.filter((answer) => answer.status === 409).length, 31);
  const { api_key } = won[0].body;
  assert.equal((await exchange.client(api_key).get("requests")).status, 200);
  await exchange.rest();
  await exchange.assertSound();
});

test("mixed work of many clients leaves a sound bucket", async () => {
  const clients = await Promise.all(
    Array.from({ length: 8 }, (_, n) => exchange.register(`worker-${n}`, { exchange: "mixed" })),
  );
  const acknowledged = new Map();
  await Promise.all(
    clients.map(async (client, n) => {
      for (let turn = 0; turn < 6; turn++) {
        const ref = await client.ask(`Errand ${n}.${turn}`);
        acknowledged.set(ref, "pending");
        const refs = [...acknowledged.keys()];
        const other = refs[(n * 7 + turn * 3) % refs.length];
        for (const status of ["claimed", "in-progress", "completed"]) {
          const answer = await client.patch(`requests/${other}`, { status });
          assert.ok([200, 409, 503].includes(answer.status), answer.text);
          if (answer.status === 200) acknowledged.set(other, status);
        }
        const said = await client.patch(`requests/${ref}`, { mess: [{ note: turn }] });
        assert.ok([200, 503].includes(said.status), said.text);
      }
    }),
  );
  await exchange.rest();
  const report = await exchange.assertSound();
  assert.ok(report.threads >= 48);
  for (const [ref, status] of acknowledged) {
    const { thread } = (await clients[0].get(`requests/${ref}`)).body;
    assert.equal(thread.status, status);
  }
});
