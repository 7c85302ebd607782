// What strangers can do to a server without a key: the bodies that they send are bounded, in number
// and in time.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { platform } from "node:process";
import { test } from "node:test";
import { openDirectory, SelfHosted } from "../support/selfhosted.js";

const MIB = 1024 * 1024;
const BODY = 255 * 1024;
const SENT = 200 * 1024;
const BODIES = 400;

/** The resident memory of the workerd that a start script runs, in bytes. */
function memoryOf(exchange) {
  const parents = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const [, name, rest] = /\((.*)\) (.*)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"));
      parents.set(pid, { name, parent: rest.split(" ")[1] });
    } catch {
      // It has ended meanwhile.
    }
  }
  const isBelow = (pid) =>
    pid === String(exchange.child.pid) || (parents.has(pid) && isBelow(parents.get(pid).parent));
  const [workerd] = [...parents].find(([pid, { name }]) => name === "workerd" && isBelow(pid));
  const [, kib] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${workerd}/status`, "utf8"));
  return Number(kib) * 1024;
}

/** Begins a registration whose body does not come to its end; gives the answer as text. */
function beginRegistration({ hostname, port }, body) {
  const socket = net.connect(Number(port), hostname);
  socket.write(
    "POST /api/v1/exchanges/home/register HTTP/1.1\r\nHost: localhost\r\n" +
      `Content-Type: application/json\r\nContent-Length: ${BODY}\r\nConnection: close\r\n\r\n`,
  );
  socket.write(body);
  return new Promise((resolve) => {
    let text = "";
    socket.setEncoding("utf8").on("data", (data) => {
      text += data;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });
}

test("bodies that do not end are bounded in memory, refused beyond that, and given up", {
  skip: platform === "linux" ? false : "it looks into /proc",
}, async (t) => {
  const exchange = await SelfHosted.start(await openDirectory());
  t.after(() => exchange.stop());
  const url = new URL(exchange.url);
  const phone = await exchange.register("phone");
  const before = memoryOf(exchange);
  const part = Buffer.alloc(SENT, " ");
  const answers = Array.from({ length: BODIES }, () => beginRegistration(url, part));
  let busy = 0;
  for (const answer of answers) answer.then((text) => (busy += text.includes('"busy"') ? 1 : 0));
  await exchange.eventually(() => busy > 0, "a refusal");
  assert.equal((await fetch(new URL("/health", url))).status, 200);
  assert.equal((await phone.get("requests")).status, 200);
  // Strangers have no more than their part of the room: members go on.
  const long = await phone.post("requests", { intent: "x", context: ["y".repeat(4 * MIB)] });
  assert.ok([201, 413].includes(long.status), long.text);
  const grown = memoryOf(exchange) - before;
  assert.ok(grown < 300 * MIB, `${Math.round(grown / MIB)} MiB more`);
  const texts = await Promise.all(answers);
  const statuses = new Map();
  for (const text of texts) {
    const status = /^HTTP\/1.1 (\d+)/.exec(text)?.[1];
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  }
  t.diagnostic(`${JSON.stringify([...statuses])}, ${Math.round(grown / MIB)} MiB more`);
  assert.deepEqual([...statuses.keys()].sort(), ["408", "503"]);
  assert.ok(texts.find((text) => text.startsWith("HTTP/1.1 503")).includes("Retry-After: 2"));
  // Nothing of it is left: a new body has all the room.
  assert.equal((await exchange.client().post("register", { executor_id: "b" })).status, 201);
});

test("a body that trickles in is given up as well", async (t) => {
  const exchange = await SelfHosted.start(await openDirectory());
  t.after(() => exchange.stop());
  const { hostname, port } = new URL(exchange.url);
  const socket = net.connect(Number(port), hostname);
  socket.on("error", () => {});
  socket.write(
    "POST /api/v1/exchanges/home/register HTTP/1.1\r\nHost: localhost\r\n" +
      "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
  );
  const trickle = setInterval(() => socket.write("1\r\n \r\n"), 2_000);
  t.after(() => clearInterval(trickle));
  const text = await new Promise((resolve) => socket.setEncoding("utf8").once("data", resolve));
  socket.destroy();
  assert.match(text, /^HTTP\/1.1 408/);
});

test("a body whose chunks are malformed is the client's mistake", async (t) => {
  const exchange = await SelfHosted.start(await openDirectory());
  t.after(() => exchange.stop());
  const { key } = await exchange.register("agent");
  const { hostname, port } = new URL(exchange.url);
  for (const [path, headers] of [
    ["requests", `Authorization: Bearer ${key}\r\n`],
    ["register", ""],
  ]) {
    // No number, one that is too large, and one that is not the length of the chunk.
    for (const size of ["zz", "ffffffffffffffffff", "5"]) {
      const socket = net.connect(Number(port), hostname);
      socket.write(
        `POST /api/v1/exchanges/home/${path} HTTP/1.1\r\nHost: localhost\r\n${headers}` +
          "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
          `${size}\r\n{"a":1}\r\n0\r\n\r\n`,
      );
      const text = await new Promise((resolve) => socket.setEncoding("utf8").once("data", resolve));
      socket.destroy();
      assert.match(text, /^HTTP\/1.1 400/, `${path} ${size}`);
      assert.match(text, /"body_broken"/);
    }
  }
  const errors = exchange.logs.filter(({ level }) => level === "error");
  assert.deepEqual(errors, []);
});

test("a wrong token in the header is refused before the body is read", async (t) => {
  const exchange = await SelfHosted.start(await openDirectory(), {
    REGISTRATION_TOKEN: "open sesame",
  });
  t.after(() => exchange.stop());
  const { hostname, port } = new URL(exchange.url);
  const socket = net.connect(Number(port), hostname);
  // Not a byte of the body is sent.
  socket.write(
    "POST /api/v1/exchanges/home/register HTTP/1.1\r\nHost: localhost\r\n" +
      "X-Registration-Token: guess\r\nContent-Type: application/json\r\n" +
      `Content-Length: ${BODY}\r\n\r\n`,
  );
  const text = await new Promise((resolve) => socket.setEncoding("utf8").once("data", resolve));
  socket.destroy();
  assert.match(text, /^HTTP\/1.1 403/);
});

test("many long lists hold nobody up", async (t) => {
  const exchange = await SelfHosted.start(await openDirectory());
  t.after(() => exchange.stop());
  const agent = await exchange.register("agent");
  const intent = "x".repeat(9_000);
  for (let asked = 0; asked < 300; asked += 1) await agent.ask(intent);
  let done = 0;
  const all = Array.from({ length: 48 }, async () => {
    const { status } = await agent.get("requests?limit=1000&executor=nobody");
    assert.equal(status, 200);
    done += 1;
  });
  await Promise.race(all);
  // Whoever comes now waits for a few of those that came before, and not for all of them.
  assert.equal((await exchange.fetch("/health")).status, 200);
  assert.ok(done < 24, `${done} of 48 came first`);
  await Promise.all(all);
});

test("a hook that posts to its own exchange ends by itself", async (t) => {
  const exchange = await SelfHosted.start(await openDirectory(), {
    OUTBOUND_ALLOW_PRIVATE: "true",
  });
  t.after(() => exchange.stop());
  const agent = await exchange.register("agent");
  const hook = {
    type: "webhook",
    url: `${exchange.url}/api/v1/exchanges/home/requests`,
    headers: { Authorization: `Bearer ${agent.key}` },
    body: { intent: "Again" },
  };
  const hooks = { on_request_created: [hook] };
  assert.equal((await agent.patch("executors/agent", { hooks })).status, 200);
  assert.equal((await agent.post("requests", { intent: "Once" })).status, 201);
  const outcome = async () => {
    const { body } = await agent.get("executors/agent/deliveries");
    return body.deliveries.find(({ status }) => status === 508)?.outcome;
  };
  await exchange.eventually(async () => (await outcome()) === "failed", "the end of the circle");
  await exchange.rest();
  assert.equal((await agent.get("requests")).body.threads.length, 4, "the first, and three more");
});

test("web pages cannot use an exchange that anybody may join", async (t) => {
  const exchange = await SelfHosted.start(await openDirectory(), { ALLOWED_HOSTS: "mess.lan" });
  t.after(() => exchange.stop());
  const { port } = new URL(exchange.url);
  const call = (headers, path = "/api/v1/exchanges/home/register") =>
    new Promise((resolve, reject) => {
      const body = JSON.stringify({ executor_id: `x${Math.random().toString(36).slice(2)}` });
      const sent = { "Content-Type": "application/json", ...headers };
      const options = {
        host: "127.0.0.1",
        port,
        method: "POST",
        path,
        headers: sent,
        agent: false,
      };
      const request = http.request(options, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (data) => {
          text += data;
        });
        response.on("end", () => resolve([response.statusCode, JSON.parse(text).code]));
      });
      request.on("error", reject);
      request.end(body);
    });
  const local = `127.0.0.1:${port}`;
  // As a page of another origin calls it, and as one does that gave its name our address.
  const evil = "https://evil.example";
  assert.deepEqual(await call({ Host: local, Origin: evil }), [403, "foreign_origin"]);
  assert.deepEqual(await call({ Host: local, Origin: "null" }), [403, "foreign_origin"]);
  assert.deepEqual(await call({ Host: "evil.example", Origin: "http://evil.example" }), [
    421,
    "foreign_host",
  ]);
  assert.deepEqual(await call({ Host: `evil.example:${port}` }, "/health"), [421, "foreign_host"]);
  for (const headers of [
    { Host: local },
    { Host: `localhost:${port}` },
    { Host: `mess.lan:${port}` },
    { Host: local, Origin: `http://${local}` },
  ]) {
    assert.deepEqual(await call(headers), [201, undefined], JSON.stringify(headers));
  }
  // With a key every origin may call: what a page can send then, somebody gave it.
  const phone = await exchange.register("phone");
  assert.equal((await phone.get("requests", { Origin: evil })).status, 200);
});
