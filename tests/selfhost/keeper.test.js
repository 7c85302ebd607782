// What dies: workerd is started again, and does not outlive the start script.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../support/s3.js";
import {
  collect,
  openDirectory,
  processes,
  SelfHosted,
  spawnStart,
} from "../support/selfhosted.js";

/** An exchange on a directory, stopped at the end of the test. */
async function begin(t, prepare) {
  const exchange = await SelfHosted.start(await openDirectory(), {}, prepare);
  t.after(() => exchange.stop());
  return exchange;
}

/** Kills workerd, as the system does when memory runs out. */
async function killRuntime(exchange) {
  await exchange.eventually(() => exchange.runtime, "a runtime");
  process.kill(exchange.runtime, "SIGKILL");
}

/** Waits until `check` holds, for at most so many milliseconds. */
async function within(milliseconds, check, what) {
  const until = performance.now() + milliseconds;
  while (!(await check())) {
    assert.ok(performance.now() < until, `${what} within ${milliseconds} ms`);
    await sleep(20);
  }
}

/** Whether it answers. */
const answers = (exchange) => () =>
  fetch(new URL("/health", exchange.url)).then(
    ({ ok }) => ok,
    () => false,
  );

/** The lines of its log that tell of a death. */
function deaths({ logs }) {
  const lines = logs.map(({ message }) => JSON.parse(message));
  return lines.filter(({ message }) => message === "the runtime died and is started again");
}

/** What a second start on its directory says. */
async function secondStart(exchange) {
  const child = spawnStart({ ...exchange.store.env, PORT: String(await freePort()) });
  const late = setTimeout(() => child.kill(), 20_000);
  const { code, stdout } = await collect(child);
  clearTimeout(late);
  assert.equal(code, 1, stdout);
  return JSON.parse(stdout.trim().split("\n").at(-1)).message;
}

test("a runtime that is killed is started again, with its data and its lock", async (t) => {
  const exchange = await begin(t);
  const phone = await exchange.register("phone");
  const ref = await phone.ask("Check front door");
  const first = exchange.runtime;
  // Between the two nobody else gets the directory.
  const second = secondStart(exchange);
  await killRuntime(exchange);
  await within(2_000, answers(exchange), "an answer");
  assert.notEqual(exchange.runtime, first);
  assert.deepEqual(await phone.list(), [ref]);
  assert.match(await second, /^another process uses the directory/);
  assert.match(await secondStart(exchange), /^another process uses the directory/);
  assert.deepEqual(deaths(exchange), [
    {
      level: "error",
      message: "the runtime died and is started again",
      reason: "SIGKILL",
      after_ms: 0,
    },
  ]);
});

test("the tick goes on after a death: at once, and through the new socket", async (t) => {
  const exchange = await begin(t);
  const phone = await exchange.register("phone");
  for (const death of [1, 2]) {
    await killRuntime(exchange);
    await exchange.eventually(() => deaths(exchange).length === death, `death ${death}`);
  }
  // While none runs, a newer program has written, which only a tick notices.
  const format = join(exchange.store.folder, "format.json");
  await writeFile(format, '{"least_version":"99.0.0"}');
  await exchange.eventually(
    () => exchange.logs.some(({ message }) => message.includes("at least 99.0.0")),
    "a tick",
  );
  assert.equal((await phone.get("requests")).status, 503);
  await rm(format);
  await exchange.tick();
});

test("the fifth death within a minute ends it, with a sentence", async (t) => {
  const exchange = await begin(t);
  for (let death = 1; death <= 5; death += 1) {
    await killRuntime(exchange);
    if (death === 5) break;
    await exchange.eventually(() => deaths(exchange).length === death, `death ${death}`);
    await within(6_000, answers(exchange), "an answer");
  }
  assert.equal(await exchange.ended, 1);
  assert.deepEqual(
    deaths(exchange).map(({ after_ms }) => after_ms),
    [0, 1_000, 2_000, 4_000],
  );
  assert.deepEqual(JSON.parse(exchange.logs.at(-1).message), {
    level: "error",
    message: "the runtime died 5 times within a minute, the last time with SIGKILL",
  });
});

test("what is told to stop is not started again, also while it waits to start again", async (t) => {
  const exchange = await begin(t);
  for (const death of [1, 2]) {
    await killRuntime(exchange);
    await exchange.eventually(() => deaths(exchange).length === death, `death ${death}`);
  }
  exchange.child.kill("SIGTERM");
  assert.equal(await exchange.ended, 0);
  await exchange.begin();
  exchange.child.kill("SIGTERM");
  assert.equal(await exchange.ended, 0);
  assert.equal(deaths(exchange).length, 2, "an end that was asked for is no death");
});

test("a burst of sockets takes all descriptors: it answers again once they are closed", async (t) => {
  const exchange = await begin(t, "ulimit -S -n 64; ulimit -H -n 96");
  const phone = await exchange.register("phone");
  if (process.platform === "linux") {
    const limits = await readFile(`/proc/${exchange.runtime}/limits`, "utf8");
    assert.match(limits, /^Max open files +96 +96 /m, "it may use all that it could have");
  }
  const { port } = new URL(exchange.url);
  const sockets = Array.from({ length: 200 }, () => {
    const socket = net.connect(Number(port), "127.0.0.1");
    socket.on("error", () => {});
    return socket;
  });
  await exchange.eventually(() => deaths(exchange).length > 0, "a death");
  assert.match(deaths(exchange)[0].reason, /^status 1: .*Too many open files/);
  for (const socket of sockets) socket.destroy();
  await within(5_000, answers(exchange), "an answer");
  assert.equal((await phone.get("requests")).status, 200);
});

test("workerd does not outlive a start script that is killed", async (t) => {
  const exchange = await begin(t);
  const phone = await exchange.register("phone");
  const ref = await phone.ask("Check front door");
  const children = processes().filter(({ parent }) => parent === exchange.child.pid);
  const numbers = children.map(({ pid }) => pid);
  assert.ok(numbers.includes(exchange.runtime));
  exchange.child.kill("SIGKILL");
  const isLeft = () => processes().some(({ pid }) => numbers.includes(pid));
  await within(2_000, () => !isLeft(), "their end");
  await exchange.begin();
  assert.deepEqual(await phone.list(), [ref]);
});

test("nor at any moment of its start", async (t) => {
  for (const delay of [0, 60, 90, 120, 150, 180, 210, 250, 300]) {
    const store = await openDirectory();
    t.after(() => {
      for (const { pid } of processes(store.folder)) process.kill(pid, "SIGKILL");
    });
    const child = spawnStart({
      ...store.env,
      TMPDIR: store.folder,
      PORT: String(await freePort()),
    });
    await sleep(delay);
    child.kill("SIGKILL");
    await once(child, "exit");
    await within(2_000, () => processes(store.folder).length === 0, `an end after ${delay} ms`);
    const next = await SelfHosted.start(store);
    await next.stop();
  }
});
