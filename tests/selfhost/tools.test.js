// The tools for those who run an exchange: what the auditor finds, what reindexing mends, and the
// same bucket on all three backends after it was copied.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { start as startOnCloudflare } from "../support/cloudflare.js";
import { startMiniflareS3 } from "../support/s3.js";
import { asTarget, mess, openDirectory, SelfHosted } from "../support/selfhosted.js";

/** A directory with something of everything in it, at rest, and the keys of those who made it. */
let store;
let keys;
let refs;
/** The code of an invitation that nobody has used. */
let code;
before(async () => {
  store = await openDirectory();
  const exchange = await SelfHosted.start({ ...store, stop: async () => {} });
  const agent = await exchange.register("agent", { display_name: "The agent ✓" });
  const phone = await exchange.register("phone");
  const gone = await exchange.register("gone");
  await agent.send("DELETE", "executors/gone");
  const lost = (await agent.post("executors/me/keys", { label: "lost" })).body;
  await agent.send("DELETE", `executors/me/keys/${lost.id}`);
  ({ code } = (await agent.post("invitations", { executor_id: "later", role: "guest" })).body);
  keys = [agent.key, phone.key, gone.key, lost.api_key];
  refs = [];
  for (let n = 0; n < 12; n += 1) {
    const ref = await agent.ask(`Errand ${n} 🚪`, { priority: n % 2 ? "urgent" : "normal" });
    refs.push(ref);
    if (n % 3) await phone.patch(`requests/${ref}`, { status: "claimed", message: "on my way" });
    if (n % 3 === 2) {
      const done = { status: "completed", mess: [{ response: { content: ["ünï"] } }] };
      await phone.patch(`requests/${ref}`, done);
    }
  }
  // The end of a membership is looked at once more after two minutes.
  await exchange.tick(Date.now() + 240_000);
  await exchange.rest();
  await exchange.stop();
});
after(() => rm(store.folder, { recursive: true }));

/** The same bucket in a directory of its own. */
async function copyOfStore() {
  const copy = await openDirectory();
  const to = asTarget(copy.env);
  const { code, stdout, stderr } = await mess(["copy"], { ...store.env, ...to });
  assert.equal(code, 0, stdout + stderr);
  return copy;
}

/** Everything that a client can read. */
async function readAll(exchange) {
  const answers = {};
  for (const [at, key] of keys.entries()) {
    const client = exchange.client(key);
    const paths = ["executors", "executors/agent", "requests?limit=1000", "requests?limit=5"];
    paths.push("exchange", "executors/me/keys", "invitations", "audit");
    for (const status of ["pending", "claimed", "completed"]) {
      paths.push(`requests?status=${status}`);
    }
    paths.push(...refs.map((ref) => `requests/${ref}`));
    for (const path of paths) {
      const { status, text, headers } = await client.get(path);
      answers[`${at} ${path}`] = [status, text, headers.get("ETag")];
    }
  }
  return answers;
}

test("a directory keeps every clause of the contract", async (t) => {
  const empty = await openDirectory();
  t.after(() => empty.stop());
  const { code, stdout } = await mess(["check"], empty.env);
  assert.equal(code, 0, stdout);
  assert.ok(stdout.trim().split("\n").length >= 16);
  assert.ok(!stdout.includes("FAIL"));
  assert.equal((await empty.objects()).size, 0);
});

test("the same answers from a directory, S3 and R2 after a copy", async () => {
  const folder = await mkdtemp(join(tmpdir(), "mess-copied-"));
  const inDirectory = await copyOfStore();
  try {
    const exchange = await SelfHosted.start(inDirectory);
    const expected = await readAll(exchange);
    assert.ok(
      Object.values(expected).some(([status, text]) => status === 200 && text.includes("🚪")),
    );
    await exchange.stop();

    const s3 = await startMiniflareS3(folder);
    const to = asTarget(s3.env);
    const copied = await mess(["copy"], { ...store.env, ...to });
    assert.equal(copied.code, 0, copied.stdout + copied.stderr);
    const count = (await store.objects()).size;
    assert.match(copied.stdout, new RegExp(`^${count} objects were copied, of ${count}\\.$`, "m"));
    assert.match(copied.stdout, /^Both hold the same: SHA-256 [0-9a-f]{64}\.$/m);
    assert.match(copied.stderr, /^copying: \[#{24}\]/m);
    const onS3 = await SelfHosted.start(s3);
    assert.deepEqual(await readAll(onS3), expected);
    await onS3.stop();

    // Miniflare's S3 server is over R2: the same bucket by its binding.
    const onR2 = await startOnCloudflare({ state: folder });
    assert.equal((await (await onR2.fetch("/health")).json()).storage, "r2");
    assert.deepEqual(await readAll(onR2), expected);
    await onR2.stop();
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("after a copy and a reindexing, what was revoked is so, and invitations are what they were", async () => {
  const copy = await copyOfStore();
  try {
    // A disk may lose the objects that say whose keys there are.
    for (const key of (await copy.objects("keys/")).keys()) await copy.bucket().delete(key);
    const { code: ended, stdout } = await mess(["reindex"], copy.env);
    assert.equal(ended, 0, stdout);
    const exchange = await SelfHosted.start({ ...copy, stop: async () => {} });
    const statuses = [];
    for (const key of keys) statuses.push((await exchange.client(key).get("requests")).status);
    assert.deepEqual(statuses, [200, 200, 401, 401]);
    const joined = await exchange.client().post("register", { invitation: code });
    assert.deepEqual([joined.status, joined.body.role], [201, "guest"], joined.text);
    await exchange.rest();
    await exchange.stop();
    const audited = await mess(["audit"], copy.env);
    assert.equal(audited.code, 0, audited.stdout);
  } finally {
    await copy.stop();
  }
});

test("a copy that was cut short goes on, and one that differs is told", async () => {
  const copy = await copyOfStore();
  const to = asTarget(copy.env);
  const thread = join(copy.folder, `threads/exchange=home/${refs[0]}.json`);
  await rm(thread);
  await writeFile(join(copy.folder, `threads/exchange=home/${refs[1]}.json`), "half");
  const again = await mess(["copy"], { ...store.env, ...to });
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /^2 objects were copied, of \d+\.$/m);
  assert.equal(
    await readFile(thread, "utf8"),
    (await store.objects()).get(`threads/exchange=home/${refs[0]}.json`),
  );

  await writeFile(join(copy.folder, "executors/exchange=home/stranger.json"), "{}");
  const other = await mess(["copy"], { ...store.env, ...to });
  assert.equal(other.code, 1);
  assert.match(other.stdout, /^THEY DIFFER: the source holds \d+ objects, the copy \d+\.$/m);
  await copy.stop();
});

test("what the disk lost is found by the audit and mended by reindexing", async () => {
  const copy = await copyOfStore();
  const at = (key) => join(copy.folder, key);
  const objects = [...(await copy.objects()).keys()];
  const sound = await mess(["audit"], copy.env);
  assert.equal(sound.code, 0, sound.stdout);
  // What presses has a timer.
  assert.match(sound.stdout, /^12 threads, \d+ events, 3 executors, 6 obligations: sound$/m);

  // As a power cut leaves files: empty, half, gone.
  await truncate(at(`threads/exchange=home/${refs[2]}.json`));
  await truncate(at(`threads/exchange=home/${refs[5]}.json`), 100);
  await rm(at(`threads/exchange=home/${refs[8]}.json`));
  const entries = objects.filter((key) => key.startsWith("index/"));
  await rm(at(entries.find((key) => key.endsWith(refs[0]))));
  await truncate(at(entries.find((key) => key.endsWith(refs[1]))), 5);
  await writeFile(at(entries[0].replace(/\d{13}-/, "9999999999999-")), "{}");
  const created = objects.find((key) => key.startsWith("events/"));
  await rm(at(objects.find((key) => key.startsWith("keys/"))));
  const { thread_ref: ref } = JSON.parse((await readFile(at(created), "utf8")).split("\n")[0]);
  if (ref && ![refs[2], refs[5], refs[8]].includes(ref)) await rm(at(created));

  const found = await mess(["audit", "--json"], copy.env);
  assert.equal(found.code, 1);
  assert.ok(JSON.parse(found.stdout).problems.length >= 6, found.stdout);
  const mended = await mess(["reindex"], copy.env);
  assert.equal(mended.code, 0, mended.stderr);
  assert.match(mended.stdout, /^12 threads are in order; removed were 2 objects/m);
  const audited = await mess(["audit"], copy.env);
  assert.equal(audited.code, 0, audited.stdout);
  const [before, now] = [await store.objects(), await copy.objects()];
  assert.deepEqual([...now.keys()], [...before.keys()]);
  for (const [key, text] of now) {
    // What is rebuilt says the same, but for the moment of a key's making.
    if (!/^(derived|keys)\//.test(key))
      assert.deepEqual(parsed(text), parsed(before.get(key)), key);
  }
  const exchange = await SelfHosted.start(copy);
  const client = exchange.client(keys[0]);
  assert.equal((await client.list()).length, 12);
  await exchange.stop();
});

const parsed = (text) =>
  text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));

test("what is asked for wrongly is told in a sentence", async () => {
  for (const [args, env, code, said] of [
    [["paint"], {}, 2, /^mess: there is no command paint/],
    [["audit", "--fast"], {}, 2, /^mess: Unknown option '--fast'/],
    [["audit", "--at", "soon"], {}, 2, /^mess: --at must be a time/],
    [["copy"], {}, 1, /^mess: the setting TO_STORAGE_TYPE must be set/],
    [["copy"], { TO_STORAGE_TYPE: "filesystem" }, 1, /TO_STORAGE_PATH must be set/],
    [
      ["copy"],
      { TO_STORAGE_TYPE: "s3" },
      1,
      /^mess: where to copy to, with TO_ before each name: the setting S3_BUCKET must be set/m,
    ],
    [["audit"], { STORAGE_TYPE: "r2" }, 1, /STORAGE_TYPE must be filesystem or s3 here/],
  ]) {
    const outcome = await mess(args, { ...store.env, ...env });
    assert.equal(outcome.code, code, outcome.stdout);
    assert.match(outcome.stderr.replace(/^mess: \w+ of .*\n/, ""), said);
  }
  for (const args of [[], ["--help"], ["copy", "--help"], ["audit", "-h"]]) {
    const { code, stdout } = await mess(args, {});
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: /);
  }
});
