// `npm run deploy`, from a release: the real wrangler, which calls a stand-in of Cloudflare's API.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { Account } from "./support/account.js";
import { collect } from "./support/selfhosted.js";
import { atTerminal } from "./support/terminal.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const URL_OF_IT = "https://mess-exchange.you.workers.dev";
const TOKEN = /REGISTRATION_TOKEN=([0-9a-f]{48})\n/;

/** A folder that has what a release has, with wrangler as if it had been installed there. */
let release;
before(async () => {
  release = await mkdtemp(join(tmpdir(), "mess-release-"));
  for (const path of ["selfhost", "package.json", "scripts"]) {
    await cp(join(ROOT, path), join(release, path), { recursive: true });
  }
  await mkdir(join(release, "build/wrangler"), { recursive: true });
  for (const file of ["index.js", "index_bg.wasm", "manifest.json"]) {
    await cp(join(ROOT, "build", file), join(release, "build", file));
  }
  await writeFile(join(release, "build/RELEASE"), "0.1.0\n");
  await symlink(join(ROOT, "node_modules"), join(release, "build/wrangler/node_modules"));
  const { devDependencies } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  const packages = ["wrangler", "node"].map((name) => `${name}@${devDependencies[name]}`);
  await writeFile(join(release, "build/wrangler/complete"), `${packages.join(" ")}\n`);
});
after(() => rm(release, { recursive: true }));

/** wrangler.toml as scripts/release.sh writes it, with more lines at its beginning. */
async function configuration(lines) {
  const text = (await readFile(join(ROOT, "wrangler.toml"), "utf8"))
    .replace(/^#:schema.*\n/m, "")
    .replace(/^\[build\]\n(.+\n)*/m, "");
  return text.replace(/^send_metrics.*\n/m, (line) => `${line}${lines}`);
}

/** A copy of the release with those lines in its wrangler.toml, and an account to deploy it to. */
async function begin(t, lines = "") {
  const account = await Account.start();
  const home = await mkdtemp(join(tmpdir(), "mess-home-"));
  t.after(async () => {
    await account.stop();
    await rm(home, { recursive: true });
  });
  const folder = join(home, "release");
  await cp(release, folder, { recursive: true, verbatimSymlinks: true });
  const config = await configuration(lines);
  await writeFile(join(folder, "wrangler.toml"), config);
  const { PATH } = process.env;
  const cache = { NODE_COMPILE_CACHE: join(release, "compiled") };
  const env = { PATH, ...account.env, ...cache, HOME: home, TMPDIR: home };
  const command = ["bash", join(folder, "scripts/deploy.sh")];
  return {
    account,
    home,
    isUnchanged: () => readFileSync(join(folder, "wrangler.toml"), "utf8") === config,
    /** Runs it where there is no terminal; gives {code, stdout, stderr}. */
    run(args = [], more = {}) {
      const [program, ...rest] = [...command, ...args];
      const options = { env: { ...env, ...more }, stdio: ["ignore", "pipe", "pipe"] };
      return collect(spawn(program, rest, options));
    },
    /** Runs it at a terminal; gives {code, screen}. */
    atTerminal: (args = [], more = {}) => atTerminal([...command, ...args], { ...env, ...more }),
  };
}

/** The values that a version was uploaded with. */
const value = ({ bindings }, name) => bindings.get(name)?.text;

// Two at a time, as wrangler takes a second to start.
describe("npm run deploy", { concurrency: 2 }, () => {
  it("a first deployment has a bucket, and is never open: its first version has a token", async (t) => {
    const { account, atTerminal, isUnchanged } = await begin(t);
    const { code, screen } = await atTerminal();
    assert.equal(code, 0, screen);
    assert.deepEqual([...account.buckets], ["mess-exchange"]);
    const [, token] = TOKEN.exec(screen) ?? assert.fail(screen);
    assert.equal(screen.split(token).length, 2, "it is shown once");
    const [first, ...others] = account.versions;
    assert.deepEqual(others, []);
    assert.equal(first.worker, "mess-exchange");
    assert.equal(value(first, "REGISTRATION_TOKEN"), token);
    assert.equal(first.bindings.get("REGISTRATION_TOKEN").type, "secret_text");
    assert.equal(first.bindings.get("MESS_BUCKET").bucket_name, "mess-exchange");
    assert.ok(screen.includes(`MESS Exchange is deployed at ${URL_OF_IT}\n`), screen);
    assert.ok(screen.includes(`curl -X POST ${URL_OF_IT}/api/v1/exchanges/home/register`), screen);
    assert.ok(screen.includes("Who may join   whoever has the registration token"), screen);
    assert.ok(isUnchanged(), "wrangler.toml was rewritten");

    // The next one changes nothing of it, whatever the environment says.
    const again = await atTerminal([], { REGISTRATION_TOKEN: "another" });
    assert.equal(again.code, 0, again.screen);
    assert.ok(!TOKEN.test(again.screen), again.screen);
    assert.match(again.screen, /the REGISTRATION_TOKEN of the environment is not used/);
    assert.equal(value(account.versions[1], "REGISTRATION_TOKEN"), undefined);
    assert.equal(account.workers.get("mess-exchange").get("REGISTRATION_TOKEN").text, token);
    assert.equal(
      account.calls.filter((call) => call === "POST /accounts/account/r2/buckets").length,
      1,
    );
  });

  it("where there is no terminal, the environment gives the token, which is not shown", async (t) => {
    const { account, run } = await begin(t);
    const refused = await run();
    assert.equal(refused.code, 1, refused.stdout);
    assert.match(
      refused.stderr,
      /this is no terminal to show a new one on: give it one in the variable/,
    );
    assert.deepEqual([account.buckets.size, account.versions.length], [0, 0]);

    const token = "pa$HOME ss'word";
    const { code, stdout, stderr } = await run([], { REGISTRATION_TOKEN: token });
    assert.equal(code, 0, stdout + stderr);
    assert.equal(value(account.versions[0], "REGISTRATION_TOKEN"), token);
    assert.ok(!(stdout + stderr).includes(token));
  });

  it("a dry run asks nothing of Cloudflare, and makes nothing", async (t) => {
    const { account, run } = await begin(t);
    const { code, stdout, stderr } = await run(["--dryRun"], { CLOUDFLARE_API_TOKEN: "" });
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /--dry-run: exiting now/);
    assert.deepEqual(account.calls, []);
  });

  it("who has said who may join gets no token", async (t) => {
    const open = await begin(t, '[vars]\nJOIN = "open"\nDEFAULT_EXCHANGE = "office"\n');
    const { code, stdout, stderr } = await open.run();
    assert.equal(code, 0, stdout + stderr);
    assert.equal(value(open.account.versions[0], "REGISTRATION_TOKEN"), undefined);
    assert.equal(value(open.account.versions[0], "JOIN"), "open");
    assert.match(
      stdout,
      /Who may join {3}anyone who reaches it, .*\n.*take JOIN out of wrangler.toml/,
    );
    assert.ok(stdout.includes("/exchanges/office/register"), stdout);
    assert.ok(!stdout.includes("X-Registration-Token"), stdout);

    const invited = await begin(t, "");
    const said = await invited.run(["--var", "JOIN:invitation"]);
    assert.equal(said.code, 0, said.stderr);
    assert.match(said.stdout, /whoever is invited; anyone may found an exchange/);
    // JOIN=token says that there is one.
    const needed = await invited.run(["--var", "JOIN:token"]);
    assert.match(needed.stderr, /no registration token/);
  });

  it("another environment has a Worker, a bucket and a token of its own", async (t) => {
    const { account, run } = await begin(t);
    account.workers.set(
      "mess-exchange",
      new Map([["REGISTRATION_TOKEN", { type: "secret_text" }]]),
    );
    const { code, stdout, stderr } = await run(["--env", "dev"], { REGISTRATION_TOKEN: "hush" });
    assert.equal(code, 0, stdout + stderr);
    const [{ worker, bindings }] = account.versions;
    assert.equal(worker, "mess-exchange-dev");
    assert.equal(bindings.get("REGISTRATION_TOKEN").text, "hush");
    assert.equal(bindings.get("MESS_BUCKET").bucket_name, "mess-exchange-dev");
    assert.deepEqual([...account.buckets], ["mess-exchange-dev"]);
    assert.ok(stdout.includes("https://mess-exchange-dev.you.workers.dev/api/v1"), stdout);
  });

  it("a file of secrets of one's own must say who may join", async (t) => {
    const { account, home, run } = await begin(t);
    const file = join(home, "secrets");
    await writeFile(file, "SECRETS_KEY=a\n");
    const refused = await run(["--secrets-file", file]);
    assert.equal(refused.code, 1);
    assert.ok(refused.stderr.includes(`say in ${file} who may join`), refused.stderr);
    for (const text of ["REGISTRATION_TOKEN=mine\n", '{"REGISTRATION_TOKEN": "mine"}']) {
      await writeFile(file, text);
      const { code, stderr } = await run(["--secrets-file", file]);
      assert.equal(code, 0, stderr);
      assert.equal(value(account.versions.pop(), "REGISTRATION_TOKEN"), "mine");
      account.workers.clear();
    }
  });

  it("what Cloudflare refuses ends it with a sentence, and nothing is deployed", async (t) => {
    const { account, run } = await begin(t);
    const token = { REGISTRATION_TOKEN: "hush" };
    const nobody = await run([], { ...token, CLOUDFLARE_API_TOKEN: "" });
    assert.equal(nobody.code, 1);
    assert.match(
      nobody.stderr,
      /^deploy: nobody is logged in at Cloudflare: run npx wrangler login, or/m,
    );

    const message = "Please enable R2 through the Cloudflare Dashboard.";
    account.failures = [[/r2\/buckets/, 403, { code: 10042, message }]];
    const without = await run([], token);
    assert.equal(without.code, 1);
    assert.ok(
      without.stderr.includes("deploy: wrangler cannot make the bucket mess-exchange: "),
      without.stderr,
    );
    assert.ok(without.stderr.includes(message), without.stderr);

    account.failures = [[/secrets$/, 403, { code: 10000, message: "Authentication error" }]];
    const denied = await run([], token);
    assert.equal(denied.code, 1);
    assert.match(
      denied.stderr,
      /^deploy: wrangler cannot list the secrets of the Worker: (?:.*\n)+ *Authen/m,
    );

    const kept = await run(["--keep-vars"], token);
    assert.match(kept.stderr, /cannot list the secrets/);
    account.failures = [];
    const unseen = await run(["--keep-vars"], token);
    assert.match(unseen.stderr, /the settings of the dashboard stay, which cannot be seen/);
    assert.deepEqual(account.versions, []);
  });

  it("a token is shown as well where wrangler fails after the Worker has got it", async (t) => {
    const { account, atTerminal } = await begin(t);
    account.failures = [[/PUT .*schedules/, 500, { code: 10013, message: "An unknown error" }]];
    const { code, screen } = await atTerminal();
    assert.equal(code, 1, screen);
    const token = value(account.versions[0], "REGISTRATION_TOKEN");
    assert.ok(screen.includes(`has got this registration token: ${token}\n`), screen);

    account.workers.clear();
    account.failures = [
      [/PUT .*scripts\/mess-exchange$/, 500, { code: 10013, message: "An error" }],
    ];
    const before = await atTerminal();
    assert.equal(before.code, 1, before.screen);
    assert.ok(!before.screen.includes("registration token"), before.screen);
  });
});
