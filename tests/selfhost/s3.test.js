// S3: several processes over one bucket, servers of another make, and servers that fail.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startProxy } from "../support/proxy.js";
import { startMiniflareS3, startMoto, through } from "../support/s3.js";
import { collect, mess, SelfHosted, spawnStart } from "../support/selfhosted.js";

const HOURS = [1, 2, 3, 26].map((hours) => hours * 3_600_000);

let miniflare;
let moto;
before(async () => {
  moto = await startMoto();
  miniflare = await startMiniflareS3();
});
after(() => Promise.all([miniflare.stop(), moto.stop()]));

/** A store that outlives the exchange on it. */
const shared = (store) => ({ ...store, stop: async () => {} });

for (const name of ["Miniflare's S3", "moto"]) {
  const store = () => (name === "moto" ? moto : miniflare);

  test(`${name} keeps every clause of the contract`, async () => {
    const { code, stdout, stderr } = await mess(["check"], store().env);
    assert.equal(code, 0, stdout + stderr);
    assert.ok(stdout.trim().split("\n").length >= 16);
    assert.ok(!stdout.includes("FAIL"));
  });

  test(`64 claims by three processes over ${name}: one wins`, async () => {
    const servers = await Promise.all(
      Array.from({ length: 3 }, () => SelfHosted.start(shared(store()))),
    );
    try {
      const agent = await servers[0].register("agent");
      const keys = await Promise.all(
        Array.from(
          { length: 64 },
          async (_, n) => (await servers[n % 3].register(`phone-${n}`)).key,
        ),
      );
      const ref = await agent.ask("Who comes?");
      const answers = await Promise.all(
        keys.map((key, n) =>
          servers[n % 3].client(key).patch(`requests/${ref}`, { status: "claimed" }),
        ),
      );
      const won = answers.flatMap(({ status }, n) => (status === 200 ? [`phone-${n}`] : []));
      assert.equal(won.length, 1);
      // Whoever gives up for the others' sake is told to try again, and finds it taken.
      const lost = answers.filter(({ status }) => status !== 200);
      assert.ok(lost.every(({ status }) => status === 409 || status === 503));
      assert.ok(lost.some(({ status }) => status === 409));
      for (const server of servers) {
        const { thread } = (await server.client(agent.key).get(`requests/${ref}`)).body;
        assert.equal(thread.executor_id, won[0]);
      }
      for (const later of HOURS) await servers[0].tick(Date.now() + later);
      await servers[0].assertSound(Date.now() + HOURS.at(-1));
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  });
}

/** What a mixed load of several clients was told: the statuses, and the notes that were taken. */
async function mixedLoad(servers, exchange, { clients: count = 8, turns = 6 } = {}) {
  const clients = [];
  for (let n = 0; n < count; n += 1) {
    const { key } = await servers[n % servers.length].register(`worker-${n}`, { exchange });
    clients.push(servers.map((server) => server.client(key, exchange)));
  }
  const told = { notes: new Map(), statuses: new Map() };
  const any = (clientsOfOne, turn) => clientsOfOne[turn % clientsOfOne.length];
  await Promise.all(
    clients.map(async (mine, n) => {
      const refs = [];
      for (let turn = 0; turn < turns; turn += 1) {
        const answer = await any(mine, turn).post("requests", { intent: `Errand ${n}.${turn}` });
        told.statuses.set(answer.status, (told.statuses.get(answer.status) ?? 0) + 1);
        if (answer.status === 201) {
          refs.push(answer.body.ref);
          told.notes.set(answer.body.ref, []);
        }
        const ref = [...told.notes.keys()][n % Math.max(1, told.notes.size)];
        if (!ref) continue;
        for (const [at, body] of [
          { status: "claimed" },
          { mess: [{ note: `${n}.${turn}` }] },
          { status: "completed" },
        ].entries()) {
          const changed = await any(mine, turn + at + 1).patch(`requests/${ref}`, body);
          told.statuses.set(changed.status, (told.statuses.get(changed.status) ?? 0) + 1);
          if (changed.status === 200 && body.mess) told.notes.get(ref).push(`${n}.${turn}`);
        }
      }
    }),
  );
  return { ...told, client: clients[0][0] };
}

/** Lets the ticks do what is owed, and sees that everything that was taken is there. */
async function assertKept(servers, { notes, client }) {
  for (const later of HOURS) {
    for (const server of servers) await server.tick(Date.now() + later);
  }
  const listed = await client.list();
  for (const [ref, taken] of notes) {
    assert.ok(listed.includes(ref), ref);
    const { thread } = (await client.get(`requests/${ref}`)).body;
    const found = thread.messages.flatMap(({ mess }) => mess.map(({ note }) => note));
    assert.deepEqual(
      taken.filter((note) => !found.includes(note)),
      [],
    );
  }
  return servers[0].assertSound(Date.now() + HOURS.at(-1));
}

test("a mixed load of several clients on three processes leaves a sound bucket", async () => {
  const servers = await Promise.all(
    Array.from({ length: 3 }, () => SelfHosted.start(shared(miniflare))),
  );
  try {
    const told = await mixedLoad(servers, "several");
    assert.equal(told.statuses.get(201), 48);
    await assertKept(servers, told);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
});

test("a store that ignores conditional writes is refused at the start", async () => {
  // moto does not look at signatures, so that the conditions can be taken out on the way.
  const proxy = await startProxy(moto.url, ({ headers }) => {
    delete headers["if-match"];
    delete headers["if-none-match"];
  });
  try {
    const store = through(moto, proxy.url);
    const { code, stdout } = await collect(spawnStart(store.env));
    assert.equal(code, 1);
    const { message } = JSON.parse(stdout.trim().split("\n").at(-1));
    assert.match(
      message,
      /^the store ignores conditional writes \(it creates an object that is there\)/,
    );
    const checked = await mess(["check"], store.env);
    assert.equal(checked.code, 1);
    assert.match(checked.stdout, /^FAIL one_swapper_wins: 8 winners$/m);
  } finally {
    await proxy.stop();
  }
});

test("a store that fails half the time costs latency, not correctness", async () => {
  let failures = 0;
  let isWell = true;
  // The same sequence at each run. Every other failure comes after the store has done its work.
  let seed = 1;
  const random = () => {
    seed = (seed * 16_807) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const proxy = await startProxy(miniflare.env.S3_ENDPOINT, () => {
    if (isWell || random() < 0.5) return undefined;
    failures += 1;
    if (random() < 0.1) return { hangUp: true };
    return { status: 503, after: random() < 0.5 };
  });
  const server = await SelfHosted.start(shared(through(miniflare, proxy.url)));
  try {
    isWell = false;
    const told = await mixedLoad([server], "failing", { clients: 6, turns: 3 });
    isWell = true;
    assert.ok(failures > 200, String(failures));
    const answers = [...told.statuses.values()].reduce((sum, count) => sum + count);
    const failed = told.statuses.get(503) ?? 0;
    assert.ok(failed < answers / 4, `${failed} of ${answers} were given up`);
    const known = [200, 201, 403, 409, 503];
    assert.deepEqual(
      [...told.statuses.keys()].filter((status) => !known.includes(status)),
      [],
    );
    await assertKept([server], told);
  } finally {
    await server.stop();
    await proxy.stop();
  }
});
