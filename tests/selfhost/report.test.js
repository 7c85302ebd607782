// What the start script says: to a person at a terminal, and to everyone else.

import assert from "node:assert/strict";
import { test } from "node:test";
import { welcome } from "../../selfhost/report.js";
import { readServer } from "../../selfhost/settings.js";
import { freePort } from "../support/s3.js";
import { collect, openDirectory, START, spawnStart } from "../support/selfhosted.js";
import { atTerminal } from "../support/terminal.js";

const say = (env) => welcome(readServer(env), "1.2.3");

test("a person is told where it listens, who may join, and what to try", () => {
  assert.equal(
    say({ STORAGE_PATH: "/home/you/data" }),
    `
MESS Exchange 1.2.3 listens on http://localhost:3000

  Data          /home/you/data (a directory; one process at a time)
  Who may join  anyone on this machine: set REGISTRATION_TOKEN, or JOIN=invitation, to change that
  Reachable     from this machine only: set REGISTRATION_TOKEN, JOIN or HOST to open it to others
  Try           curl -X POST http://localhost:3000/api/v1/exchanges/home/register \\
                  -H "Content-Type: application/json" -d '{"executor_id": "alice"}'
  Read on       docs/quickstart.md, docs/configuration.md
  Stop          Ctrl-C
`,
  );
});

test("the sentences follow the settings", () => {
  for (const [env, expected] of [
    [{ PORT: "8080" }, "listens on http://localhost:8080\n"],
    [{ HOST: "0.0.0.0" }, "listens on http://localhost:3000\n"],
    [{ HOST: "192.0.2.1" }, "curl -X POST http://192.0.2.1:3000/api"],
    [{ HOST: "::1" }, "listens on http://[::1]:3000\n"],
    [{ HOST: "127.0.0.1" }, "Who may join  anyone on this machine: set REGISTRATION_TOKEN, or"],
    [{ HOST: "*" }, "Who may join  anyone who reaches this machine: set REGISTRATION_TOKEN, or"],
    [
      { JOIN: "open" },
      "Who may join  anyone who reaches this machine: set REGISTRATION_TOKEN and unset JOIN, or",
    ],
    [{ JOIN: "invitation" }, "Who may join  whoever is invited; anyone may found an exchange\n"],
    [
      { JOIN: "invitation", REGISTRATION_TOKEN: "hush" },
      "Who may join  whoever is invited; whoever has the REGISTRATION_TOKEN may found an exchange\n",
    ],
    [
      { REGISTRATION_TOKEN: "hush" },
      "Who may join  whoever has the REGISTRATION_TOKEN, or an invitation\n",
    ],
    [
      { REGISTRATION_TOKEN: "hush" },
      '/register \\\n                  -H "X-Registration-Token: $REGISTRATION_TOKEN" \\\n',
    ],
    [{ DEFAULT_EXCHANGE: "office" }, "/api/v1/exchanges/office/register"],
    [{ PUBLIC_URL: "https://mess.example" }, "\n  Public URL    https://mess.example\n"],
    [
      { STORAGE_TYPE: "s3", S3_BUCKET: "errands", S3_ENDPOINT: "http://minio:9000" },
      "Data          the bucket errands at http://minio:9000\n",
    ],
    [{ STORAGE_TYPE: "s3", S3_BUCKET: "errands" }, "Data          the bucket errands at AWS\n"],
  ]) {
    const said = say(env);
    assert.ok(said.includes(expected), `${JSON.stringify(env)}: ${said}`);
  }
});

test("where nobody has decided who may join, only this machine reaches it", () => {
  for (const [env, host] of [
    [{}, "127.0.0.1"],
    [{ HOST: "", JOIN: "", REGISTRATION_TOKEN: "" }, "127.0.0.1"],
    [{ JOIN: "open" }, "*"],
    [{ JOIN: "invitation" }, "*"],
    [{ REGISTRATION_TOKEN: "hush" }, "*"],
    [{ HOST: "*" }, "*"],
    [{ HOST: "::1", JOIN: "open" }, "::1"],
  ]) {
    assert.equal(readServer(env).host, host, JSON.stringify(env));
    const isSaid = say(env).includes("Reachable     from this machine only");
    assert.equal(isSaid, host === "127.0.0.1", JSON.stringify(env));
  }
});

test("no secret is shown", () => {
  const said = say({
    OPERATOR_TOKEN: "hush-0",
    REGISTRATION_TOKEN: "hush-1",
    SECRETS_KEY: "hush-2",
    STORAGE_TYPE: "s3",
    S3_BUCKET: "errands",
    S3_ENDPOINT: "http://me:hush-3@minio:9000",
    S3_ACCESS_KEY: "hush-4",
    S3_SECRET_KEY: "hush-5",
    PUBLIC_URL: "https://me:hush-6@mess.example",
  });
  assert.ok(said.includes("at http://minio:9000/\n"), said);
  assert.ok(!said.includes("hush"), said);
});

test("at a terminal the start says sentences, and Ctrl-C ends it", async (t) => {
  const store = await openDirectory();
  t.after(() => store.stop());
  const port = String(await freePort());
  const env = { ...store.env, PORT: port };
  const { code, screen } = await atTerminal([process.execPath, START], env, /Ctrl-C\n/);
  assert.equal(code, 0, screen);
  assert.match(screen, new RegExp(`^MESS Exchange \\S+ listens on http://localhost:${port}$`, "m"));
  assert.match(screen, /^MESS Exchange stops as soon as the requests that it has are answered\.$/m);
  assert.ok(!screen.includes('"level"'), screen);
});

test("at a terminal a start that is refused says a sentence", async () => {
  const { code, screen } = await atTerminal([process.execPath, START], { PORT: "0" });
  assert.equal(code, 1);
  assert.equal(
    screen,
    "MESS Exchange cannot start: the setting PORT must be a number from 1 to 65535\n",
  );
});

test("elsewhere each is a line of JSON", async (t) => {
  const store = await openDirectory();
  t.after(() => store.stop());
  const port = await freePort();
  const child = spawnStart({ ...store.env, PORT: String(port) });
  const stop = (text) => String(text).includes("to open it to others") && child.kill("SIGTERM");
  child.stdout.on("data", stop);
  const { code, stdout } = await collect(child);
  assert.equal(code, 0, stdout);
  const lines = stdout.trim().split("\n").map(JSON.parse);
  const own = lines.filter(({ message }) => message !== "request");
  assert.deepEqual(own, [
    { level: "info", message: "serving", port, storage: "filesystem" },
    {
      level: "info",
      message:
        "anyone on this machine can join any exchange: " +
        "set REGISTRATION_TOKEN, or JOIN=invitation, to change that",
    },
    {
      level: "info",
      message:
        "it listens on this machine only: set REGISTRATION_TOKEN, JOIN or HOST to open it to others",
    },
    { level: "info", message: "stopping", signal: "SIGTERM" },
  ]);
});
