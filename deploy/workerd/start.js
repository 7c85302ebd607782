// Starts the exchange on this machine: reads the settings from the environment, takes the lock on
// the directory, asks the exchange whether it can run, and runs it in workerd until it is told to
// stop. It asks for the maintenance tick in place of Cloudflare's cron.

import { exchangeConfig, toolsConfig } from "./config.js";
import { clear, openDirectory } from "./directory.js";
import { Runtime } from "./runtime.js";
import { Problem, readServer } from "./settings.js";

const TICK_INTERVAL_MS = 30_000;

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

  await check(server, options);
  if (server.disk) clear(server.disk);
  const runtime = await Runtime.start((socket) => exchangeConfig(server, socket), options).catch(
    (error) => {
      throw new Problem(`the exchange does not start on port ${server.port}: ${error.message}`);
    },
  );
  log("info", "serving", { port: Number(server.port), storage: server.vars.STORAGE_TYPE });

  let stopping = false;
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => {
      if (stopping) return;
      stopping = true;
      log("info", "stopping", { signal });
      runtime.stop();
    });
  }
  keepUp(runtime, () => stopping);
  const reason = await runtime.exited;
  if (!stopping) throw new Problem(`the runtime ended by itself: ${reason}`);
  process.exit(0);
}

/** Throws what keeps the exchange from running with these settings. */
async function check(server, options) {
  const tools = await Runtime.start((socket) => toolsConfig(server, socket), options);
  try {
    const { status, body } = await tools.get("/check");
    if (status !== 200) throw new Problem(body.error);
  } finally {
    await tools.stop();
  }
}

/** Asks for the maintenance tick, again and again; one at a time. */
async function keepUp(runtime, isOver) {
  while (!isOver()) {
    try {
      await runtime.get("/tick");
    } catch (error) {
      if (!isOver()) log("warn", "the tick could not be asked for", { error: error.message });
    }
    await new Promise((resolve) => setTimeout(resolve, TICK_INTERVAL_MS).unref());
  }
}

try {
  await start();
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  log("error", error.message);
  process.exit(1);
}
