#!/usr/bin/env node
// Tools for whoever runs an exchange. They work on the bucket that the environment names, as the
// exchange itself does, with its own code in workerd.

import { parseArgs } from "node:util";
import { checkBuild, TOOLS_BUILD } from "./build.js";
import { toolsConfig } from "./config.js";
import { clear, openDirectory } from "./directory.js";
import { Progress } from "./progress.js";
import { Runtime } from "./runtime.js";
import { Problem, readBucket } from "./settings.js";

const HELP = `Usage: mess COMMAND [OPTIONS]

Works on the bucket that the settings in the environment name, as the exchange itself does:
STORAGE_TYPE=filesystem with STORAGE_PATH (./data), or STORAGE_TYPE=s3 with S3_BUCKET,
S3_ACCESS_KEY, S3_SECRET_KEY, S3_ENDPOINT and S3_REGION. An R2 bucket is reached as s3, at
https://<account id>.r2.cloudflarestorage.com. A directory is locked meanwhile: stop the exchange.

Commands:
  audit    hold the parts of the bucket against each other, and say what does not fit
  check    try on the bucket, below conformance/, everything that the exchange needs of a store
  copy     copy the bucket to the one of the same settings with TO_ before their names
  reindex  rebuild threads, log and index from each other, after something was lost

mess COMMAND --help says more. The exit status is 0 when all is well, 1 when something is not, 2 when
the command cannot be understood.`;

const COMMANDS = {
  audit: {
    run: audit,
    options: { json: { type: "boolean" }, at: { type: "string" } },
    help: `Usage: mess audit [--json] [--at TIME]

Reads the whole bucket and says what does not fit: a thread that is not what its events fold into,
an event that is missing in the log or is there twice, an entry of an index that is missing or too
many, an executor without a key, anything owed for too long. Let the exchange come to rest before,
or what it is just doing is reported.

  --json     the report as JSON
  --at TIME  as of another moment than now, in RFC 3339`,
  },
  check: {
    run: check,
    options: {},
    help: `Usage: mess check

Tries each clause of the contract between the exchange and its store, conditional writes by several
at once among them, on objects below conformance/, which are removed again. Of interest before an
S3 server is used of which nobody has said that it works.`,
  },
  copy: {
    run: copy,
    options: {},
    help: `Usage: TO_STORAGE_TYPE=... TO_...=... mess copy

Copies all objects to the bucket that TO_STORAGE_TYPE, TO_STORAGE_PATH, TO_S3_BUCKET and so on name.
It must be empty or hold an earlier, unfinished copy: an object that is the same there is not written
again, ONE THAT DIFFERS IS OVERWRITTEN. At the end both are read again, and counted and hashed. Stop the
exchange before.

  # from this machine to R2
  TO_STORAGE_TYPE=s3 TO_S3_ENDPOINT=https://<account id>.r2.cloudflarestorage.com \\
  TO_S3_BUCKET=mess-exchange TO_S3_ACCESS_KEY=... TO_S3_SECRET_KEY=... mess copy`,
  },
  reindex: {
    run: reindex,
    options: {},
    help: `Usage: mess reindex

Rebuilds what can be told from something else: threads that are missing or cannot be read from the
log, log objects and index entries from the threads, keys from the executors' records; empty files are
removed. Registrations that the log has lost stay lost to it. What is in
order stays as it is; a thread that cannot be read is removed before it is rebuilt. Stop the exchange
before, and copy the bucket if it is precious. Of use after a power cut, a file that was deleted by
mistake, or when the audit finds something.`,
  },
};

async function audit(tools, { json, at }) {
  const now = at === undefined ? Date.now() : Date.parse(at);
  const report = await tools.call(`/audit?now=${now}`);
  if (json) {
    console.log(JSON.stringify(report));
  } else {
    for (const problem of report.problems) console.log(problem);
    const { threads, events, executors, obligations } = report;
    console.log(
      `${threads} threads, ${events} events, ${executors} executors, ${obligations} obligations: ` +
        (report.problems.length ? `${report.problems.length} problems` : "sound"),
    );
  }
  return report.problems.length === 0;
}

async function check(tools) {
  const outcomes = await tools.call("/conformance");
  for (const { clause, problem } of outcomes) {
    console.log(`${problem === null ? "ok  " : "FAIL"} ${clause}${problem ? `: ${problem}` : ""}`);
  }
  return outcomes.every(({ problem }) => problem === null);
}

async function copy(tools) {
  const total = await tools.walk("/count?", new Progress("counting"));
  if (!total.objects) throw new Problem("there is nothing to copy: is this the right bucket?");
  const copied = await tools.walk("/copy?", new Progress("copying", total.objects));
  const [from, to] = [
    await tools.digest("from", new Progress("verifying the source", total.objects)),
    await tools.digest("to", new Progress("verifying the copy", total.objects)),
  ];
  const same = from.objects === to.objects && from.digest === to.digest;
  console.log(`${copied.copied} objects were copied, of ${from.objects}.`);
  console.log(
    same
      ? `Both hold the same: SHA-256 ${from.digest}.`
      : `THEY DIFFER: the source holds ${from.objects} objects, the copy ${to.objects}.`,
  );
  return same;
}

async function reindex(tools) {
  const discarded = await tools.walk("/reindex?step=discard&", new Progress("reading objects"));
  for (const exchange of await tools.call("/reindex?step=exchanges")) {
    const step = `/reindex?step=derive&exchange=${exchange}`;
    const progress = new Progress(`reading the log of ${exchange}`);
    let { done } = await tools.call(`${step}&begin=1`);
    for (let turn = 1; !done; turn += 1) {
      progress.show(turn);
      ({ done } = await tools.call(step));
    }
    progress.end();
  }
  const settled = await tools.walk("/reindex?step=settle&", new Progress("settling threads"));
  const swept = await tools.walk("/reindex?step=sweep&", new Progress("sweeping the index"));
  console.log(
    `${settled.objects} threads are in order; removed were ${discarded.changed} objects that could not ` +
      `be read, before the log was, and ${swept.changed} index entries that belonged to no thread.`,
  );
  return true;
}

/** Where a bucket is, in a few words. */
function nameOf({ disk, vars }, prefix = "") {
  return disk ?? `s3 ${vars[`${prefix}S3_BUCKET`]} at ${vars[`${prefix}S3_ENDPOINT`] ?? "AWS"}`;
}

/** The tools Worker, on the buckets of the environment. */
class Tools {
  static async start(env, command) {
    checkBuild(TOOLS_BUILD);
    const bucket = readBucket(env);
    const target = command === "copy" ? readBucket(env, "TO_") : undefined;
    console.error(
      `mess: ${command} of ${nameOf(bucket)}${target ? ` to ${nameOf(target, "TO_")}` : ""}`,
    );
    const locks = [bucket, target].flatMap((one) =>
      one?.disk ? [openDirectory(one.disk, one.setting)] : [],
    );
    const options = { env: { ...bucket.vars, ...target?.vars }, inherit: locks };
    const runtime = new Runtime((socket) => toolsConfig(bucket, socket, target), options);
    await runtime.untilUp();
    return new Tools(
      runtime,
      [bucket.disk, target?.disk].filter((disk) => disk),
    );
  }

  constructor(runtime, disks) {
    Object.assign(this, { runtime, disks });
  }

  async stop() {
    await this.runtime.stop();
    for (const disk of this.disks) clear(disk);
  }

  async call(path) {
    const { status, body } = await this.runtime.get(path);
    if (status !== 200) throw new Problem(body.error);
    return body;
  }

  /** Calls a path of stretches to its end; gives the sum of what each says. */
  async walk(path, progress, between = () => "") {
    const sum = {};
    let part = { next: "" };
    do {
      part = await this.call(`${path}after=${encodeURIComponent(part.next)}${between(part)}`);
      for (const [name, value] of Object.entries(part)) {
        sum[name] = typeof value === "number" ? (sum[name] ?? 0) + value : value;
      }
      progress.show(sum.objects);
    } while (part.next);
    progress.end();
    return sum;
  }

  digest(of, progress) {
    return this.walk(`/digest?of=${of}&`, progress, ({ digest = "" }) => `&digest=${digest}`);
  }
}

async function main([name, ...rest]) {
  if (!name || ["help", "--help", "-h"].includes(name)) {
    console.log(HELP);
    return true;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) throw new TypeError(`there is no command ${name}: mess --help lists them`);
  const options = { ...command.options, help: { type: "boolean", short: "h" } };
  const { values } = parseArgs({ args: rest, options });
  if (values.help) {
    console.log(command.help);
    return true;
  }
  if (values.at && Number.isNaN(Date.parse(values.at))) {
    throw new TypeError("--at must be a time like 2026-01-31T12:00:00Z");
  }
  const tools = await Tools.start(process.env, name);
  try {
    return await command.run(tools, values);
  } finally {
    await tools.stop();
  }
}

// What is at work ends with this process, and so does its lock.
for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

try {
  process.exit((await main(process.argv.slice(2))) ? 0 : 1);
} catch (error) {
  console.error(`mess: ${error.message}`);
  // What parseArgs throws is a TypeError too.
  process.exit(error instanceof TypeError ? 2 : 1);
}
