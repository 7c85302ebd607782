// Starts the exchange on this machine: reads the settings from the environment, takes the lock on
// the directory, asks the exchange whether it can run, and runs it in workerd until it is told to
// stop. It asks for the maintenance tick in place of Cloudflare's cron.

import { exchangeConfig, toolsConfig } from "./config.js";
import { clear, openDirectory } from "./directory.js";
import { Runtime } from "./runtime.js";
import { Problem, readServer } from "./settings.js";

const TICK_INTERVAL_MS = 30_000;
/** A tick begins nothing after 45 s; one that takes longer than this will not answer any more. */
const TICK_WITHIN_MS = 300_000;

/** One line of JSON, as the exchange itself writes them. */
function log(level, message, more = {}) {
  console.log(JSON.stringify({ level, message, ...more }));
}

async function start() {
  const server = readServer(process.env);
  const options = {
    env: server.vars,
    inherit: [],
    onError: (error) => {
      // Of each failure workerd writes a second line, with addresses in its own code.
      if (!error.startsWith("stack: ")) log("error", "the runtime says", { error });
    },
  };
  if (server.disk) options.inherit.push(openDirectory(server.disk, server.setting));

  const tools = await run((socket) => toolsConfig(server, socket), options);
  const { status, body } = await tools.get("/check");
  if (status !== 200) throw new Problem(body.error);
  await tools.stop();
  // The check leaves empty folders.
  if (server.disk) clear(server.disk, ["conformance"]);
  const where = ` on port ${server.port}`;
  const exchange = await run((socket) => exchangeConfig(server, socket), options, where);
  log("info", "serving", { port: Number(server.port), storage: server.vars.STORAGE_TYPE });
  if (!server.vars.REGISTRATION_TOKEN && !["127.0.0.1", "::1"].includes(process.env.HOST)) {
    log("warn", "without REGISTRATION_TOKEN, whoever reaches this server can join any exchange");
  }
  keepUp(exchange);
  const reason = await exchange.exited;
  throw new Problem(`the runtime ended by itself: ${reason}`);
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
      if (!stopping) log("warn", "the tick could not be asked for", { error: error.message });
    }
    await new Promise((resolve) => setTimeout(resolve, TICK_INTERVAL_MS).unref());
  }
}

for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) {
  process.on(signal, async () => {
    if (stopping) return;
    stopping = true;
    log("info", "stopping", { signal });
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
    log("error", error.message);
    await running?.stop();
    process.exit(1);
  }
}
