// What the start script says: sentences to a person at a terminal, and lines of JSON, as the
// exchange itself writes them, to everyone else.

/** Values of HOST: all addresses of the machine, and those that only the machine itself reaches. */
const EVERYWHERE = ["*", "0.0.0.0", "::"];
const LOOPBACK = ["127.0.0.1", "::1"];

/** How others come to reach what listens on this machine only since nobody has decided. */
const HOW_TO_OPEN = "set REGISTRATION_TOKEN, JOIN or HOST to open it to others";

/** Lines of JSON, for a log that machines read. */
export class LogReport {
  constructor(write) {
    this.write = write;
  }

  #log(level, message, more = {}) {
    this.write(JSON.stringify({ level, message, ...more }));
  }

  serving(server) {
    this.#log("info", "serving", { port: Number(server.port), storage: server.vars.STORAGE_TYPE });
    if (isOpen(server)) {
      const level = isNear(server) ? "info" : "warn";
      this.#log(level, `anyone ${reach(server)} can join any exchange: ${howToClose(server)}`);
    }
    if (server.isUnasked) this.#log("info", `it listens on this machine only: ${HOW_TO_OPEN}`);
  }

  stopping(signal) {
    this.#log("info", "stopping", { signal });
  }

  /** The sentence says why the exchange cannot start, or has ended. */
  failed(sentence) {
    this.#log("error", sentence);
  }

  /** The runtime is started again after `pause` milliseconds. */
  died(reason, pause) {
    this.#log("error", "the runtime died and is started again", { reason, after_ms: pause });
  }

  /** A line that workerd itself wrote of what goes wrong. */
  runtimeSays(error) {
    this.#log("error", "the runtime says", { error });
  }

  noTick(error) {
    this.#log("warn", "the tick could not be asked for", { error });
  }
}

/**
 * Sentences. Once the exchange serves, what goes wrong stands in the log between its own lines,
 * which are JSON, and is JSON too.
 */
export class PersonReport extends LogReport {
  #version;
  #isServing = false;

  constructor(write, version) {
    super(write);
    this.#version = version;
  }

  serving(server) {
    this.#isServing = true;
    this.write(welcome(server, this.#version));
  }

  stopping() {
    this.write("\nMESS Exchange stops as soon as the requests that it has are answered.");
  }

  failed(sentence) {
    const what = this.#isServing ? "has stopped" : "cannot start";
    this.write(`MESS Exchange ${what}: ${sentence}`);
  }

  runtimeSays(error) {
    if (this.#isServing) super.runtimeSays(error);
    else this.write(`The runtime says: ${error}`);
  }
}

/** The sentences with which a person is told that the exchange serves. */
export function welcome(server, version) {
  const url = localUrl(server);
  const { vars } = server;
  const exchange = vars.DEFAULT_EXCHANGE ?? "home";
  const token = vars.REGISTRATION_TOKEN
    ? '\n-H "X-Registration-Token: $REGISTRATION_TOKEN" \\'
    : "";
  const rows = [
    ["Data", data(server)],
    ["Who may join", whoMayJoin(server)],
    ...(server.isUnasked ? [["Reachable", `from this machine only: ${HOW_TO_OPEN}`]] : []),
    [
      "Try",
      `curl -X POST ${url}/api/v1/exchanges/${exchange}/register \\${token}\n` +
        `-H "Content-Type: application/json" -d '{"executor_id": "alice"}'`,
    ],
    ["Read on", "docs/quickstart.md, docs/configuration.md"],
    ["Stop", "Ctrl-C"],
  ];
  if (vars.PUBLIC_URL) rows.unshift(["Public URL", withoutCredentials(vars.PUBLIC_URL)]);
  const lines = rows.map(([name, text]) => {
    const [first, ...others] = text.split("\n");
    const indent = " ".repeat(18);
    return [`  ${name.padEnd(14)}${first}`, ...others.map((line) => `${indent}${line}`)].join("\n");
  });
  return `\nMESS Exchange ${version} listens on ${url}\n\n${lines.join("\n")}\n`;
}

/** Where someone on this machine reaches the server. */
function localUrl({ host, port }) {
  const name = [...EVERYWHERE, "127.0.0.1"].includes(host) ? "localhost" : host;
  return `http://${name.includes(":") ? `[${name}]` : name}:${port}`;
}

function data({ disk, vars }) {
  if (disk) return `${disk} (a directory; one process at a time)`;
  const place = vars.S3_ENDPOINT ? withoutCredentials(vars.S3_ENDPOINT) : "AWS";
  return `the bucket ${vars.S3_BUCKET} at ${place}`;
}

function whoMayJoin(server) {
  const { JOIN, REGISTRATION_TOKEN } = server.vars;
  if (JOIN === "invitation") {
    const founder = REGISTRATION_TOKEN ? "whoever has the REGISTRATION_TOKEN" : "anyone";
    return `whoever is invited; ${founder} may found an exchange`;
  }
  if (REGISTRATION_TOKEN) return "whoever has the REGISTRATION_TOKEN, or an invitation";
  return `anyone ${reach(server)}: ${howToClose(server)}`;
}

/** Whether whoever reaches the server may join. */
function isOpen({ vars }) {
  return !vars.REGISTRATION_TOKEN && vars.JOIN !== "invitation";
}

/** Whether only this machine reaches it. */
function isNear({ host }) {
  return LOOPBACK.includes(host);
}

function reach(server) {
  return isNear(server) ? "on this machine" : "who reaches this machine";
}

/** What ends that everybody can join; with JOIN=open a token alone would be refused. */
function howToClose({ vars }) {
  const unset = vars.JOIN === "open" ? " and unset JOIN" : "";
  return `set REGISTRATION_TOKEN${unset}, or JOIN=invitation, to change that`;
}

/** A URL may hold a user's name and password, which are not shown. */
function withoutCredentials(text) {
  const url = new URL(text);
  if (!url.username && !url.password) return text;
  url.username = "";
  url.password = "";
  return url.href;
}
