// Serves the exchange on http://localhost:3000 with wrangler dev and its local R2 bucket, as it
// runs on Cloudflare; rebuilt on every change of the source, faster and not optimised, in build/dev/.
//
//   PORT         another port
//   MESS_STATE   where the bucket lies (default .wrangler/state)
//
// wrangler dev does not run cron triggers by itself, so this asks for the maintenance tick once
// a minute, as the cron does on Cloudflare.

import { spawn } from "node:child_process";

const TICK_INTERVAL = 60_000;

const port = process.env.PORT || "3000";
const state = process.env.MESS_STATE || ".wrangler/state";

const wrangler = spawn(
  "wrangler",
  [
    "dev",
    "build/dev/index.js",
    "--port",
    port,
    "--persist-to",
    state,
    "--show-interactive-dev-session=false",
  ],
  {
    stdio: "inherit",
    env: { ...process.env, MESS_BUILD: "--dev", WRANGLER_SEND_METRICS: "false" },
  },
);

const tick = setInterval(async () => {
  try {
    await fetch(`http://localhost:${port}/cdn-cgi/local/scheduled`);
  } catch {
    // Not up yet, or rebuilding: the next one will do.
  }
}, TICK_INTERVAL);

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => wrangler.kill(signal));
}
wrangler.on("exit", (code, signal) => {
  clearInterval(tick);
  process.exitCode = code ?? (signal ? 1 : 0);
});
