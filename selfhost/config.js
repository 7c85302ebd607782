// The configuration of workerd: https://github.com/cloudflare/workerd, workerd.capnp.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { EXCHANGE_BUILD, TOOLS_BUILD } from "./build.js";

/** The date of the runtime's behaviour that the exchange was built for; wrangler.toml has the same. */
export const COMPATIBILITY_DATE = "2026-11-17";

const MAIN = fileURLToPath(new URL("main.js", import.meta.url));

/**
 * The exchange, on the address `server.address`, with its maintenance on the socket; without an
 * address only the maintenance can be reached.
 */
export function exchangeConfig({ vars, disk, address }, socket) {
  const modules = [["main.js", "esModule", MAIN], ...built(EXCHANGE_BUILD)];
  const sockets = [
    ["maintenance", `unix:${socket}`, `(name = "worker", entrypoint = "Maintenance")`],
  ];
  if (address) sockets.unshift(["http", address, `"worker"`]);
  return config({
    modules,
    vars,
    disks: { MESS_DISK: disk },
    sockets,
  });
}

/** The tools, on the socket; `target` is a second bucket. */
export function toolsConfig({ vars, disk }, socket, target = { vars: {} }) {
  return config({
    modules: built(TOOLS_BUILD),
    vars: { ...vars, ...target.vars },
    disks: { MESS_DISK: disk, TO_MESS_DISK: target.disk },
    sockets: [["tools", `unix:${socket}`, `"worker"`]],
  });
}

/** The modules of the build in `folder`. */
function built(folder) {
  return [
    ["index.js", "esModule", join(folder, "index.js")],
    ["index_bg.wasm", "wasm", join(folder, "index_bg.wasm")],
  ];
}

function config({ modules, vars, disks, sockets }) {
  const text = JSON.stringify;
  // What deliveries may reach: the runtime sees to it after names were resolved. The store of S3 may
  // be in a private network, and is reached by a service of its own.
  const reach = vars.OUTBOUND_ALLOW_PRIVATE === "true" ? `"public", "private"` : `"public"`;
  const network = (allow) =>
    `network = (allow = [${allow}], tlsOptions = (trustBrowserCas = true))`;
  const given = Object.entries(disks).filter(([, path]) => path);
  // By default V8 keeps young garbage in 16 MB, and with it the buffers that hang on it: a small space
  // costs no speed here and saves 30 MB.
  const flags = ["--max-semi-space-size=1"];
  // Names only: workerd takes the values from its environment.
  const variables = Object.keys(vars).map(
    (name) => `(name = ${text(name)}, fromEnvironment = ${text(name)})`,
  );
  const services = ["MESS_S3", "TO_MESS_S3"].map((name) => `(name = "${name}", service = "store")`);
  services.push(...given.map(([name]) => `(name = "${name}", service = "${name}")`));
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = (
      compatibilityDate = "${COMPATIBILITY_DATE}",
      modules = [${modules.map(([name, type, path]) => `(name = "${name}", ${type} = embed ${text(path)})`)}],
      bindings = [${[...variables, ...services]}],
    )),
    (name = "internet", ${network(reach)}),
    (name = "store", ${network(`"public", "private"`)}),
    ${given.map(([name, path]) => `(name = "${name}", disk = (path = ${text(path)}, writable = true)),`).join("\n    ")}
  ],
  v8Flags = ${text(flags)},
  sockets = [${sockets.map(([name, address, service]) => `(name = "${name}", address = ${text(address)}, http = (), service = ${service})`)}],
);
`;
}
