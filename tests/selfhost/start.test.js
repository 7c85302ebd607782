// The start script: what it refuses, the lock on a directory, how it ends, and a disk that does
// not take what it should.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import http from "node:http";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { freePort, settings, startMiniflareS3 } from "../support/s3.js";
import { collect, openDirectory, SelfHosted, spawnStart } from "../support/selfhosted.js";

let folder;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "mess-selfhosted-"));
});
after(() => rm(folder, { recursive: true }));

/** An exchange that is stopped at the end of the test. */
async function begin(t, store, vars) {
  const exchange = await SelfHosted.start(store, vars);
  t.after(() => exchange.stop());
  return exchange;
}

/** What the start script says when it refuses to start with these settings. */
async function refusal(env) {
  const child = spawnStart({ PORT: String(await freePort()), STORAGE_PATH: `${folder}/a`, ...env });
  const late = setTimeout(() => child.kill(), 20_000);
  const { code, stdout, stderr } = await collect(child);
  clearTimeout(late);
  assert.equal(code, 1, stdout + stderr);
  assert.equal(stderr, "");
  const lines = stdout.trim().split("\n");
  const { level, message } = JSON.parse(lines.at(-1));
  assert.equal(level, "error");
  for (const name of ["S3_SECRET_KEY", "SECRETS_KEY", "REGISTRATION_TOKEN", "OPERATOR_TOKEN"]) {
    if (env[name]) assert.ok(!stdout.includes(env[name]), "a secret is shown");
  }
  return message;
}

test("each wrong setting is refused with a sentence that names it", async (t) => {
  const store = await startMiniflareS3();
  const s3 = store.env;
  const file = join(folder, "file");
  await writeFile(file, "");
  for (const [env, expected] of [
    [{ PORT: "http" }, /^the setting PORT must be a number from 1 to 65535$/],
    [{ PORT: "65536" }, /^the setting PORT must be/],
    [{ PORT: "0" }, /^the setting PORT must be/],
    [{ HOST: "example.com" }, /^the setting HOST must be an IP address/],
    [{ STORAGE_TYPE: "ftp" }, /^the setting STORAGE_TYPE must be filesystem or s3 here/],
    [{ STORAGE_TYPE: "r2" }, /^the setting STORAGE_TYPE must be filesystem or s3 here/],
    [{ STORAGE_PATH: file }, /^the setting STORAGE_PATH must be a directory that can be read/],
    [{ STORAGE_PATH: `${file}/below` }, /^the setting STORAGE_PATH must be a directory/],
    [{ DEFAULT_EXCHANGE: "not an id" }, /^the setting DEFAULT_EXCHANGE must be/],
    [{ JOIN: "everybody" }, /^the setting JOIN must be open, token or invitation$/],
    [{ JOIN: "token" }, /^the setting JOIN needs a REGISTRATION_TOKEN/],
    [{ JOIN: "open", REGISTRATION_TOKEN: "sesame-1" }, /^the setting JOIN must not be open while/],
    [{ OPERATOR_TOKEN: "much too short" }, /^the setting OPERATOR_TOKEN must be 24 to 256/],
    [{ EXCHANGES: "home,not an id!" }, /^the setting EXCHANGES must be ids of exchanges/],
    [{ TRUST_PROXY: "yes" }, /^the setting TRUST_PROXY must be a number of proxies/],
    [{ LIMITS: '{"cals": 1}' }, /^the setting LIMITS knows no limit "cals"$/],
    [{ PUBLIC_URL: "mess.example" }, /^the setting PUBLIC_URL must be an http or https URL/],
    [{ DEFAULT_TIMEZONE: "Mars/Olympus" }, /^the setting DEFAULT_TIMEZONE must be an IANA/],
    [{ OUTBOUND_ALLOW_PRIVATE: "yes" }, /^the setting OUTBOUND_ALLOW_PRIVATE must be true or/],
    [{ SECRETS_KEY: "much too short" }, /^the setting SECRETS_KEY must be/],
    [{ NUDGES: "every hour" }, /^the setting NUDGES must be JSON like/],
    [{ ...s3, S3_BUCKET: "" }, /^the setting S3_BUCKET must be set with STORAGE_TYPE=s3$/],
    [{ ...s3, S3_BUCKET: "a/b" }, /^the setting S3_BUCKET must be 3 to 63 letters/],
    [{ ...s3, S3_ACCESS_KEY: "" }, /^the setting S3_ACCESS_KEY must be set/],
    [{ ...s3, S3_SECRET_KEY: "" }, /^the setting S3_SECRET_KEY must be set/],
    [{ ...s3, S3_ENDPOINT: "minio:9000" }, /^the setting S3_ENDPOINT must be an http or https/],
    [{ ...s3, S3_REGION: "here and there" }, /^the setting S3_REGION must be a region/],
    [{ ...s3, S3_SECRET_KEY: "another one" }, /the store answered 403: SignatureDoesNotMatch/],
    [{ ...s3, S3_BUCKET: "nowhere" }, /the store answered 404: NoSuchBucket/],
    [settings(`http://127.0.0.1:${await freePort()}`), /conformance\/.*tries in/],
  ]) {
    await t.test(String(expected), async () => assert.match(await refusal(env), expected));
  }
  await store.stop();
});

test("an empty setting counts as not set", async (t) => {
  const exchange = await begin(t, await openDirectory(), {
    DEFAULT_EXCHANGE: "",
    OUTBOUND_ALLOW_PRIVATE: "",
    S3_BUCKET: "",
  });
  assert.equal((await (await exchange.fetch("/health")).json()).exchange_id, "home");
});

test("a directory has one process", async (t) => {
  const exchange = await begin(t, await openDirectory());
  const phone = await exchange.register("phone");
  const env = { STORAGE_PATH: exchange.store.folder };
  assert.match(await refusal(env), /^another process uses the directory of the setting STORAGE_/);
  await exchange.kill();
  await exchange.begin();
  assert.equal((await phone.get("requests")).status, 200, "the lock is gone with its holders");
});

test("SIGTERM ends it at any moment of its start, and leaves nothing running", async () => {
  for (const delay of [0, 30, 60, 90, 120, 150, 180, 210, 250, 300]) {
    const store = await openDirectory();
    const child = spawnStart({ ...store.env, PORT: String(await freePort()) });
    await new Promise((resolve) => setTimeout(resolve, delay));
    child.kill("SIGTERM");
    const { code, signal, stdout } = await collect(child);
    // Before Node has run a line of the script, the signal ends it.
    assert.ok(code === 0 || signal === "SIGTERM", stdout);
    assert.ok(!stdout.includes('"error"'), stdout);
    // The lock is free: nobody has inherited it who still lives.
    const next = await SelfHosted.start(store);
    await next.stop();
  }
});

test("a port that is taken is named", async (t) => {
  const exchange = await begin(t, await openDirectory());
  const { port } = new URL(exchange.url);
  assert.match(
    await refusal({ PORT: port }),
    new RegExp(`does not start on port ${port}: .*Address already in use`),
  );
});

test("SIGTERM lets requests in flight come to their end", async (t) => {
  const exchange = await begin(t, await openDirectory());
  const { key } = await exchange.register("phone");
  const body = JSON.stringify({ intent: "Check front door" });
  const request = http.request(new URL("/api/v1/exchanges/home/requests", exchange.url), {
    method: "POST",
    headers: {
      Authorization: `Bearer ${key}`,
      "Content-Type": "application/json",
      "Content-Length": body.length,
    },
  });
  const answered = new Promise((resolve, reject) => {
    request.on("response", resolve);
    request.on("error", reject);
  });
  request.write(body.slice(0, 10));
  await new Promise((resolve) => setTimeout(resolve, 200));
  exchange.child.kill("SIGTERM");
  await new Promise((resolve) => setTimeout(resolve, 200));
  request.end(body.slice(10));
  const answer = await answered;
  assert.equal(answer.statusCode, 201);
  answer.resume();
  assert.equal(await exchange.ended, 0);
  await exchange.begin();
  assert.equal((await exchange.client(key).list()).length, 1);
});

test("what a killed process left is cleared, and nothing else", async (t) => {
  const store = await openDirectory();
  await mkdir(join(store.folder, "index/exchange=home/all/empty/folder"), { recursive: true });
  for (const folder of ["capabilities", "events"]) {
    await mkdir(join(store.folder, folder, "exchange=home"), { recursive: true });
    await writeFile(join(store.folder, folder, "exchange=home/.x.tmp"), "half");
  }
  await mkdir(join(store.folder, "lost+found"));
  await writeFile(join(store.folder, ".mine.tmp"), "kept");
  await begin(t, store);
  assert.ok(existsSync(join(store.folder, ".mine.tmp")));
  const left = globSync("*", { cwd: store.folder }).sort();
  assert.deepEqual(left, ["format.json", "lost+found"], "nor does the start leave anything else");
});

test("a bucket of a newer version is refused at the start, and by what runs at its next tick", async (t) => {
  const store = await openDirectory();
  const exchange = await begin(t, store);
  const phone = await exchange.register("phone");
  const format = join(store.folder, "format.json");
  assert.equal(await readFile(format, "utf8"), '{"least_version":"0.2.0"}');
  await writeFile(format, '{"least_version":"99.0.0"}');
  await exchange.tick();
  const answer = await phone.post("requests", { intent: "Check front door" });
  assert.deepEqual([answer.status, answer.body.code], [503, "outdated"]);
  assert.equal(answer.headers.get("Retry-After"), "5");
  assert.equal((await phone.get("requests")).status, 503, "nor does it show what it may misread");
  assert.equal((await fetch(new URL("/health", exchange.url))).status, 200);
  const isLogged = () => exchange.logs.some(({ message }) => message.includes("at least 99.0.0"));
  await exchange.eventually(isLogged, "a line of the log");

  const other = join(folder, "of a newer version");
  await mkdir(other);
  await writeFile(join(other, "format.json"), '{"least_version":"99.0.0"}');
  assert.match(await refusal({ STORAGE_PATH: other }), /it needs at least 99\.0\.0, this is 0\./);
  await writeFile(join(other, "format.json"), "soon");
  assert.match(await refusal({ STORAGE_PATH: other }), /format\.json/);
});

test("what is stored is for the user of the exchange alone", async (t) => {
  const exchange = await begin(t, await openDirectory());
  await exchange.register("phone");
  for (const path of ["executors", "executors/exchange=home/phone.json", ".lock"]) {
    const { mode } = await stat(join(exchange.store.folder, path));
    assert.equal(mode & 0o077, 0, path);
  }
});

test("root does not write into another's directory", {
  skip: process.getuid() === 0 ? false : "this is not root",
}, async () => {
  const place = join(folder, "of another");
  await mkdir(place);
  await chown(place, 10_001, 10_001);
  assert.match(
    await refusal({ STORAGE_PATH: place }),
    /^the setting STORAGE_PATH must be .* 10001's/,
  );
});

/** An address of this machine that others may reach; none where it has no network. */
const [other] = Object.values(networkInterfaces())
  .flat()
  .filter(({ family, internal }) => family === "IPv4" && !internal);

test("until somebody decides who may join, only this machine reaches it", {
  skip: other ? false : "this machine has one address only",
}, async (t) => {
  const warned = ({ logs }) => logs.some(({ message }) => message.includes('"level":"warn"'));
  const said = ({ logs }, text) => logs.some(({ message }) => message.includes(text));
  const isReached = ({ url }) =>
    fetch(`http://${other.address}:${new URL(url).port}/health`).then(
      ({ ok }) => ok,
      ({ cause }) => cause.code !== "ECONNREFUSED",
    );
  for (const [vars, reached, isWarned] of [
    [{}, false, false],
    [{ HOST: "*" }, true, true],
    [{ JOIN: "open" }, true, true],
    [{ JOIN: "invitation" }, true, false],
    [{ REGISTRATION_TOKEN: "open sesame" }, true, false],
  ]) {
    const exchange = await begin(t, await openDirectory(), vars);
    const what = JSON.stringify(vars);
    assert.equal(await isReached(exchange), reached, what);
    const isOpen = !vars.REGISTRATION_TOKEN && vars.JOIN !== "invitation";
    if (isOpen) {
      await exchange.eventually(() => said(exchange, "can join any exchange: set REG"), what);
    }
    assert.equal(warned(exchange), isWarned, what);
    assert.equal(said(exchange, "listens on this machine only"), !reached, what);
  }
});

test("the tick runs by itself, at once after a start", async (t) => {
  const exchange = await begin(t, await openDirectory());
  const owed = { id: crypto.randomUUID(), opened_at: "2026-01-01T00:00:00.000Z" };
  const body = { ...owed, kind: "thread", exchange_id: "home", ref: "2026-01-01-ABCD" };
  await exchange.bucket().put(`due/1767225600000-${owed.id}.json`, JSON.stringify(body));
  await exchange.restartIfStale();
  await exchange.rest();
});

const isRoot = process.getuid() === 0;

test("a full disk and a read-only one: 503, a clear line, nothing lost", {
  skip: isRoot ? false : "mounting a small file system takes root",
}, async (t) => {
  const place = join(folder, "small");
  await mkdir(place);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=700k", "none", place]);
  t.after(() => execFileSync("umount", ["--lazy", place]));
  const exchange = await begin(t, await openDirectory(place));
  const agent = await exchange.register("agent");
  const acknowledged = [];
  let last;
  while (last?.status !== 503 && acknowledged.length < 100) {
    last = await agent.post("requests", { intent: "x".repeat(9_000) });
    if (last.status === 201) acknowledged.push(last.body.ref);
  }
  assert.equal(last.status, 503, last.text);
  assert.equal(last.body.code, "unavailable");
  assert.ok(acknowledged.length > 3);
  const said = (text) =>
    exchange.eventually(() => exchange.logs.some(({ message }) => message.includes(text)), text);
  await said("No space left on device");
  for (const ref of acknowledged) {
    assert.equal((await agent.get(`requests/${ref}`)).status, 200, "what is there can be read");
  }

  execFileSync("mount", ["-o", "remount,ro", place]);
  assert.equal((await agent.post("requests", { intent: "x" })).status, 503);
  await said("Read-only file system");
  assert.equal((await agent.get(`requests/${acknowledged[0]}`)).status, 200);

  const other = join(folder, "read-only");
  await mkdir(other);
  execFileSync("mount", ["-t", "tmpfs", "-o", "ro", "none", other]);
  t.after(() => execFileSync("umount", ["--lazy", other]));
  assert.match(await refusal({ STORAGE_PATH: other }), /can be read and written \(EROFS/);

  execFileSync("mount", ["-o", "remount,rw,size=20m", place]);
  acknowledged.push(await agent.ask("There is room again"));
  for (const hours of [1, 2, 3, 26]) await exchange.tick(Date.now() + hours * 3_600_000);
  for (const ref of acknowledged) {
    assert.equal((await agent.get(`requests/${ref}`)).status, 200);
  }
  const listed = await agent.list();
  assert.deepEqual(
    acknowledged.filter((ref) => !listed.includes(ref)),
    [],
  );
  await exchange.assertSound(Date.now() + 26 * 3_600_000);
});
