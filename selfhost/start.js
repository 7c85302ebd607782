// Starts the exchange on this machine: reads the settings from the environment, takes the lock on
// the directory, asks the exchange whether it can run, and keeps it running in workerd until it is
// told to stop. It asks for the maintenance tick in place of Cloudflare's cron.

import { readFileSync } from "node:fs";
import { checkBuild, EXCHANGE_BUILD } from "./build.js";
import { exchangeConfig } from "./config.js";
import { clear, openDirectory } from "./directory.js";
import { Keeper } from "./keeper.js";
import { LogReport, PersonReport } from "./report.js";
import { Runtime } from "./runtime.js";
import { Problem, readServer } from "./settings.js";

const TICK_INTERVAL_MS = 30_000;
/** A tick begins nothing after 45 s; one that takes longer than this will not answer any more. */
const TICK_WITHIN_MS = 300_000;

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const report = process.stdout.isTTY
  ? new PersonReport(console.log, version)
  : new LogReport(console.log);
const keeper = new Keeper();

async function start() {
  const server = readServer(process.env);
  checkBuild(EXCHANGE_BUILD);
  const options = {
    env: server.vars,
    inherit: [],
    onError: (error) => report.runtimeSays(error),
  };
  // This process keeps the lock as well, also while it starts workerd again.
  if (server.disk) options.inherit.push(openDirectory(server.disk, server.setting));

  await check(server, options);
  const begin = () => new Runtime((socket) => exchangeConfig(server, socket), options);
  const exchange = await run(begin, ` on port ${server.port}`);
  report.serving(server);
  keepUp(exchange);
  await keeper.keep(begin, {
    onDeath: (reason, pause) => report.died(reason, pause),
    onUp: keepUp,
  });
}

/**
 * Lets the exchange say whether it can run here, before anyone can reach it: whether its settings
 * are right, and whether the bucket honours conditional writes.
 */
async function check(server, options) {
  const unreachable = { ...server, address: undefined };
  const exchange = await run(
    () => new Runtime((socket) => exchangeConfig(unreachable, socket), options),
  );
  const { status, body } = await exchange.get("/check").catch((error) => {
    throw new Problem(`the exchange cannot be asked whether it can run here: ${error.message}`);
  });
  if (status !== 200) throw new Problem(body.error);
  await exchange.stop();
  // The check leaves empty folders.
  if (server.disk) clear(server.disk, ["conformance"]);
}

/** The first start of what `begin` makes. */
function run(begin, where = "") {
  return keeper.start(begin).catch((error) => {
    throw new Problem(`the runtime does not start${where}: ${error.message}`);
  });
}

/** Asks for the maintenance tick, again and again; one at a time. */
async function keepUp(exchange) {
  while (!exchange.hasExited) {
    try {
      await exchange.get("/tick", TICK_WITHIN_MS);
    } catch (error) {
      if (!keeper.isStopping) report.noTick(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, TICK_INTERVAL_MS).unref());
  }
}

for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) {
  process.on(signal, async () => {
    if (keeper.isStopping) return;
    report.stopping(signal);
    await keeper.stop();
    process.exit(0);
  });
}

try {
  await start();
} catch (error) {
  // What is told to stop fails at whatever it was doing; then the signal's handler ends it.
  if (!keeper.isStopping) {
    if (!(error instanceof Problem)) throw error;
    report.failed(error.message);
    await keeper.stop();
    process.exit(1);
  }
}
