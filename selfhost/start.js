// Starts the exchange on this machine: reads the settings from the environment, takes the lock on
// the directory, asks the exchange whether it can run, and runs it in workerd until it is told to
// stop. It asks for the maintenance tick in place of Cloudflare's cron.

import { readFileSync } from "node:fs";
import { checkBuild, EXCHANGE_BUILD } from "./build.js";
import { exchangeConfig } from "./config.js";
import { clear, openDirectory } from "./directory.js";
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

async function start() {
  const server = readServer(process.env);
  checkBuild(EXCHANGE_BUILD);
  const options = {
    env: server.vars,
    inherit: [],
    onError: (error) => {
      // Of each failure workerd writes a second line, with addresses in its own code.
      if (!error.startsWith("stack: ")) report.runtimeSays(error);
    },
  };
  if (server.disk) options.inherit.push(openDirectory(server.disk, server.setting));

  await check(server, options);
  const where = ` on port ${server.port}`;
  const exchange = await run((socket) => exchangeConfig(server, socket), options, where);
  report.serving(server);
  keepUp(exchange);
  const reason = await exchange.exited;
  throw new Problem(`the runtime ended by itself: ${reason}`);
}

/**
 * Lets the exchange say whether it can run here, before anyone can reach it: whether its settings
 * are right, and whether the bucket honours conditional writes.
 */
async function check(server, options) {
  const unreachable = { ...server, address: undefined };
  const exchange = await run((socket) => exchangeConfig(unreachable, socket), options);
  const { status, body } = await exchange.get("/check").catch((error) => {
    throw new Problem(`the exchange cannot be asked whether it can run here: ${error.message}`);
  });
  if (status !== 200) throw new Problem(body.error);
  await exchange.stop();
  // The check leaves empty folders.
  if (server.disk) clear(server.disk, ["conformance"]);
}

/** The runtime that is at work, and whether it was told to stop. */
let running;
let stopping = false;

async function run(configure, options, where = "") {
  running = new Runtime(configure, options);
  await running.untilUp().catch((error) => {
    throw new Problem(`the runtime does not start${where}: ${error.message}`);
  });
  return running;
}

/** Asks for the maintenance tick, again and again; one at a time. */
async function keepUp(exchange) {
  while (!exchange.hasExited) {
    try {
      await exchange.get("/tick", TICK_WITHIN_MS);
    } catch (error) {
      if (!stopping) report.noTick(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, TICK_INTERVAL_MS).unref());
  }
}

for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) {
  process.on(signal, async () => {
    if (stopping) return;
    stopping = true;
    report.stopping(signal);
    await running?.stop();
    process.exit(0);
  });
}

try {
  await start();
} catch (error) {
  // What is told to stop fails at whatever it was doing; then the signal's handler ends it.
  if (!stopping) {
    if (!(error instanceof Problem)) throw error;
    report.failed(error.message);
    await running?.stop();
    process.exit(1);
  }
}
