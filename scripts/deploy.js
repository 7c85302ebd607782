// Deploys the exchange to Cloudflare with wrangler, and makes what is missing for it: the bucket, and a
// registration token, so that no exchange is open to everyone because nobody has thought of it.
// scripts/deploy.sh runs it, with the options of `wrangler deploy`.

import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, stripVTControlCharacters } from "node:util";

/** How wrangler says that a Worker is not there yet. */
const NO_WORKER = /Worker ".*" .*not found|\[code: (10007|10090)\]/;

/** How it says that a bucket is there already. */
const HAS_BUCKET = /\[code: 10004\]/;

/** Something that keeps the exchange from being deployed, in a sentence. */
class Problem extends Error {}

/** The options that matter here; wrangler takes all of them, and also writes them like secretsFile. */
function readOptions(args) {
  const spelled = args.map((arg) =>
    arg.replace(/^--[a-z]\w*/, (name) => name.replace(/[A-Z]/g, (big) => `-${big.toLowerCase()}`)),
  );
  const text = { type: "string" };
  const { values } = parseArgs({
    args: spelled,
    strict: false,
    options: {
      config: { ...text, short: "c" },
      env: { ...text, short: "e" },
      name: text,
      var: { ...text, multiple: true },
      "secrets-file": text,
      "dry-run": { type: "boolean" },
      "keep-vars": { type: "boolean" },
    },
  });
  return values;
}

const is = (option) => option !== undefined && String(option) !== "false";

/** wrangler.toml as wrangler reads it, for the environment that is deployed. */
function readConfig({ config, env = process.env.CLOUDFLARE_ENV }) {
  // A release has it in a folder of its own.
  const release = new URL("../build/wrangler/", import.meta.url);
  const place = existsSync(release) ? release : new URL("../", import.meta.url);
  const wrangler = createRequire(new URL("package.json", place))("wrangler");
  try {
    return wrangler.unstable_readConfig({ config, env }, { hideWarnings: true });
  } catch (error) {
    throw new Problem(error.message);
  }
}

class Deployment {
  #args;
  #options;
  #config;
  /** Where wrangler finds the token and leaves what it did, for this user alone. */
  #folder = mkdtempSync(join(tmpdir(), "mess-deploy-"));

  constructor(args, options, config) {
    this.#args = args;
    this.#options = options;
    this.#config = config;
    process.on("exit", () => rmSync(this.#folder, { recursive: true, force: true }));
  }

  async run() {
    const found = this.#secrets();
    const secrets = found ?? new Set();
    const given = this.#given();
    const isNamed = (name) => secrets.has(name) || given.has(name);
    const join = given.get("JOIN") ?? (secrets.has("JOIN") ? "set as a secret" : "");
    const isDecided = isNamed("REGISTRATION_TOKEN") || (join && join !== "token");
    const token = isDecided ? undefined : this.#newToken();
    if (isDecided && process.env.REGISTRATION_TOKEN) {
      say(
        "the REGISTRATION_TOKEN of the environment is not used: the deployment has its own, or JOIN",
      );
    }
    if (!found) this.#makeBuckets();
    const { status, url } = await this.#deploy(token);
    if (status !== 0) {
      // It may have failed after the Worker had been stored, which then has the token.
      if (token?.isNew && this.#secrets()?.has("REGISTRATION_TOKEN")) {
        say(`wrangler failed, but the Worker has got this registration token: ${token.value}`);
      }
      return status;
    }
    const hasToken = token !== undefined || isNamed("REGISTRATION_TOKEN");
    console.log(report({ url, token, join, hasToken, exchange: given.get("DEFAULT_EXCHANGE") }));
    return 0;
  }

  /** The names of the secrets that the Worker has, or undefined where there is no Worker yet. */
  #secrets() {
    const args = ["secret", "list", ...this.#selected("config", "env", "name")];
    let { status, stdout, stderr } = this.#ask(args);
    if (status !== 0 && this.#logIn()) ({ status, stdout, stderr } = this.#ask(args));
    if (status === 0) return new Set(JSON.parse(stdout).map(({ name }) => name));
    if (NO_WORKER.test(stderr)) return undefined;
    throw new Problem(`wrangler cannot list the secrets of the Worker: ${stderr}`);
  }

  /** Logs in if nobody is; says whether it did. */
  #logIn() {
    const { status, stdout } = this.#ask(["whoami", "--json"]);
    if (status === 0 || !/"loggedIn":\s*false/.test(stdout)) return false;
    const isDone =
      process.stdin.isTTY && spawnSync("wrangler", ["login"], { stdio: "inherit" }).status === 0;
    if (!isDone) {
      throw new Problem(
        "nobody is logged in at Cloudflare: run npx wrangler login, or set CLOUDFLARE_API_TOKEN",
      );
    }
    return true;
  }

  /** The settings that are given with the deployment, by name; an empty one counts as not set. */
  #given() {
    const given = new Map(Object.entries(this.#config.vars ?? {}));
    for (const variable of this.#options.var ?? []) {
      const [name, ...value] = String(variable).split(":");
      given.set(name, value.join(":"));
    }
    const file = this.#options["secrets-file"];
    if (file) for (const [name, value] of readSecrets(file)) given.set(name, value);
    return new Map([...given].filter(([, value]) => value !== ""));
  }

  /** The token that a deployment without one gets. */
  #newToken() {
    if (is(this.#options["keep-vars"]) || this.#config.keep_vars) {
      throw new Problem(
        "with keep-vars the settings of the dashboard stay, which cannot be seen from here: say in " +
          "wrangler.toml who may join (JOIN), or set the secret REGISTRATION_TOKEN",
      );
    }
    const file = this.#options["secrets-file"];
    if (file)
      throw new Problem(`say in ${file} who may join: with REGISTRATION_TOKEN, or with JOIN`);
    const value = process.env.REGISTRATION_TOKEN;
    if (value) return { value, isNew: false };
    if (!process.stdout.isTTY) {
      throw new Problem(
        "the exchange has no registration token, and this is no terminal to show a new one on: give " +
          "it one in the variable REGISTRATION_TOKEN, or say in wrangler.toml who may join (JOIN)",
      );
    }
    return { value: randomBytes(24).toString("hex"), isNew: true };
  }

  /**
   * Makes the buckets, for a first deployment. wrangler deploy makes one that is missing as well, but
   * where that fails, since R2 is not enabled, it says only that there is no such bucket.
   */
  #makeBuckets() {
    for (const { bucket_name: name, jurisdiction } of this.#config.r2_buckets) {
      const where = jurisdiction ? ["--jurisdiction", jurisdiction] : [];
      const selected = this.#selected("config", "env");
      const made = this.#ask(["r2", "bucket", "create", name, ...where, ...selected]);
      if (made.status === 0) say(`made the bucket ${name}`);
      else if (!HAS_BUCKET.test(made.stderr)) {
        throw new Problem(`wrangler cannot make the bucket ${name}: ${made.stderr}`);
      }
    }
  }

  /**
   * Runs wrangler deploy, and gives its status and the URL of the Worker. The token goes with the very
   * version that is uploaded, so the exchange is never open, not even for a moment. (`wrangler secret
   * put` could store it before the first deployment only in a Worker of its own making, which answers
   * in place of the exchange until then; after it, it would be late.)
   */
  async #deploy(token) {
    const args = deployment(this.#args, this.#options);
    if (token) {
      const file = join(this.#folder, "secrets.json");
      // As JSON: in the other form that wrangler reads, a $ in the token would mean something.
      const text = JSON.stringify({ REGISTRATION_TOKEN: token.value });
      writeFileSync(file, text, { mode: 0o600 });
      args.push("--secrets-file", file);
    }
    const output = process.env.WRANGLER_OUTPUT_FILE_PATH || join(this.#folder, "output");
    const env = { ...process.env, WRANGLER_OUTPUT_FILE_PATH: output };
    const status = await run(args, env);
    return { status, url: status === 0 ? this.#urlOf(output) : undefined };
  }

  /** Where people reach the Worker, as far as it can be known. */
  #urlOf(output) {
    const { PUBLIC_URL } = this.#config.vars ?? {};
    if (PUBLIC_URL) return PUBLIC_URL.replace(/\/$/, "");
    const entries = readFileSync(output, "utf8").trim().split("\n").map(JSON.parse);
    const targets = entries.findLast(({ type }) => type === "deploy")?.targets ?? [];
    const domain = targets
      .map((target) => /^(\S+) \(custom domain/.exec(target)?.[1])
      .find(Boolean);
    return domain ? `https://${domain}` : targets.find((target) => target.startsWith("https://"));
  }

  /** Those of the options, as they are given to wrangler. */
  #selected(...names) {
    return names
      .filter((name) => this.#options[name] !== undefined)
      .flatMap((name) => [`--${name}`, String(this.#options[name])]);
  }

  /** Runs wrangler without a terminal, so that it asks nothing; gives {status, stdout, stderr}. */
  #ask(args) {
    const stdio = ["ignore", "pipe", "pipe"];
    const { error, ...result } = spawnSync("wrangler", args, { stdio, encoding: "utf8" });
    if (error) throw new Problem(`wrangler cannot be run: ${error.message}`);
    const told = stripVTControlCharacters(result.stderr).replace(/^✘ \[ERROR\] |^🪵.*$/gmu, "");
    return { ...result, stderr: told.trim() };
  }
}

/** The arguments of wrangler for a deployment: without an environment that of the top, which it asks for. */
function deployment(args, { env = process.env.CLOUDFLARE_ENV }) {
  return ["deploy", ...args, ...(env === undefined ? ["--env", ""] : [])];
}

/** The names and values in a file of secrets: JSON, or lines like NAME=value. */
function readSecrets(file) {
  const text = readFileSync(file, "utf8");
  try {
    return Object.entries(JSON.parse(text));
  } catch {
    return [...text.matchAll(/^\s*(?:export\s+)?(\w+)\s*=\s*(.*)$/gm)].map(([, ...pair]) => pair);
  }
}

/** Runs wrangler at the terminal that this runs at; gives its status. */
function run(args, env = process.env) {
  return new Promise((resolve, reject) => {
    const child = spawn("wrangler", args, { stdio: "inherit", env });
    // Ctrl-C reaches wrangler by itself; this one has a token to show yet.
    process.on("SIGINT", () => {});
    process.on("SIGTERM", () => child.kill("SIGTERM"));
    child.on("error", (error) => reject(new Problem(`wrangler cannot be run: ${error.message}`)));
    child.on("close", (code) => resolve(code ?? 1));
  });
}

/** What is said of a deployment that went well. */
function report({ url = "the address above", token, join, hasToken, exchange = "home" }) {
  const rows = [["Who may join", whoMayJoin(join, hasToken)]];
  if (token?.isNew) {
    rows.push(["Token", `REGISTRATION_TOKEN=${token.value}\nIt is shown this once only: keep it.`]);
  }
  const header = hasToken ? '-H "X-Registration-Token: $REGISTRATION_TOKEN" ' : "";
  rows.push([
    "Join",
    `curl -X POST ${url}/api/v1/exchanges/${exchange}/register \\\n` +
      `  ${header}-H "Content-Type: application/json" -d '{"executor_id": "alice"}'`,
  ]);
  rows.push(["Does it work?", `curl '${url}/health?deep=1'`]);
  const indent = " ".repeat(17);
  const lines = rows.map(
    ([name, text]) => `  ${name.padEnd(15)}${text.replaceAll("\n", `\n${indent}`)}`,
  );
  return `\nMESS Exchange is deployed at ${url}\n\n${lines.join("\n")}\n`;
}

function whoMayJoin(join, hasToken) {
  if (join === "invitation") {
    const founder = hasToken ? "whoever has the registration token" : "anyone";
    return `whoever is invited; ${founder} may found an exchange`;
  }
  if (hasToken) return "whoever has the registration token, or an invitation";
  if (join !== "open") return "see the secret JOIN";
  return "anyone who reaches it, and can then read everything:\nto close it, take JOIN out of wrangler.toml and deploy again";
}

function say(sentence) {
  console.error(`deploy: ${sentence}`);
}

const args = process.argv.slice(2);
const options = readOptions(args);
try {
  if (is(options["dry-run"])) process.exitCode = await run(deployment(args, options));
  else {
    process.exitCode = await new Deployment(args, options, readConfig(options)).run();
  }
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  say(error.message);
  process.exitCode = 1;
}
