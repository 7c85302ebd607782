// The servers that the benchmark measures, both as Workers in workerd with a local R2 bucket:
// the exchange as it was built, and the floor on a copy of its bucket. And the start of an
// isolate, in a Worker that loads others.

import { readFile } from "node:fs/promises";
import { Miniflare } from "miniflare";
import { COMPATIBILITY_DATE } from "../../selfhost/config.js";
import { BUILD } from "../support/cloudflare.js";

const REST_MS = 10_000;

/** The modules of the exchange. Read once: a build in between changes nothing. */
export async function readExchange() {
  return {
    script: await readFile(new URL("index.js", BUILD), "utf8"),
    wasm: await readFile(new URL("index_bg.wasm", BUILD)),
  };
}

export function startExchange({ script, wasm }, state) {
  const modules = {
    "index.js": { type: "esm", contents: script },
    "index_bg.wasm": { type: "wasm", contents: wasm },
  };
  return Server.start(modules, {}, state);
}

export async function startFloor(samples, state) {
  const contents = await readFile(new URL("floor.js", import.meta.url), "utf8");
  const modules = { "floor.js": { type: "esm", contents } };
  return Server.start(modules, { SAMPLES: text(JSON.stringify(samples)) }, state);
}

class Server {
  static async start(modules, env, state) {
    const bucket = { MESS_BUCKET: { type: "r2", name: "mess-exchange" } };
    const miniflare = startMiniflare(modules, { ...env, ...bucket }, state);
    return new Server(miniflare, await miniflare.ready);
  }

  constructor(miniflare, url) {
    this.miniflare = miniflare;
    this.url = url;
  }

  stop() {
    return this.miniflare.dispose();
  }

  /** Waits until all work is done that was left for after an answer. */
  async rest() {
    const bucket = await this.miniflare.getR2Bucket("MESS_BUCKET");
    for (const until = Date.now() + REST_MS; Date.now() < until; ) {
      if ((await bucket.list({ prefix: "due/", limit: 1 })).objects.length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error("work is left over in due/");
  }

  /** The objects below `prefix`, by key: their text, and their summary where they have one. */
  async objects(prefix) {
    const bucket = await this.miniflare.getR2Bucket("MESS_BUCKET");
    const objects = new Map();
    let cursor;
    do {
      const page = await bucket.list({ prefix, cursor });
      for (const { key } of page.objects) {
        const object = await bucket.get(key);
        objects.set(key, { text: await object.text(), summary: object.customMetadata.summary });
      }
      cursor = page.cursor;
    } while (cursor);
    return objects;
  }
}

function startMiniflare(modules, env, state) {
  const [mainModule] = Object.keys(modules);
  return new Miniflare({
    resourcePersistencePath: state,
    // The exchange writes a line for each request: read, so that the pipe does not fill, and
    // dropped.
    handleStructuredLogs: () => {},
    workers: [
      {
        config: {
          name: "bench",
          compatibilityDate: COMPATIBILITY_DATE,
          manifest: { mainModule, modules },
          env,
        },
      },
    ],
  });
}

function text(value) {
  return { type: "text", value };
}

// What is measured: workerd, already running, is asked for a Worker it has not seen, and for the
// first answer of its /health: making the isolate, parsing the script, compiling and
// instantiating the WebAssembly, the first request. Each start gets a wasm of its own (an empty
// section with a number is appended), since V8 shares compiled code between isolates of one
// process. The same with a Worker of one line tells what any Worker costs here.
//
// Its limits: Cloudflare fetches the code from another place, compiles before the first request
// arrives (during the TLS handshake) and on other processors; and the bucket is a stub here,
// which /health does not touch.
const LOADER = `
import script from "./exchange.txt";
import wasm from "./exchange.bin";

const ENTRY = 'import Exchange from "./index.js";' +
  'class R2Bucket {}' +
  'export default { fetch(request, env, context) {' +
  '  return new Exchange(context, { MESS_BUCKET: new R2Bucket() }).fetch(request);' +
  '} };';
const TRIVIAL = 'export default { fetch() { return new Response("ok"); } };';
let starts = 0;

function numbered(bytes, number) {
  const name = new TextEncoder().encode(String(number).padStart(8, "0"));
  // A custom section: id 0, length of the rest, length of the name, the name.
  const section = [0, name.length + 1, name.length, ...name];
  const copy = new Uint8Array(bytes.byteLength + section.length);
  copy.set(new Uint8Array(bytes));
  copy.set(section, bytes.byteLength);
  return copy.buffer;
}

export default {
  async fetch(request, env) {
    const number = ++starts;
    const modules = request.url.endsWith("trivial")
      ? { "main.js": { js: TRIVIAL } }
      : {
          "main.js": { js: ENTRY },
          "index.js": { js: script },
          "index_bg.wasm": { wasm: numbered(wasm, number) },
        };
    const started = performance.now();
    const worker = env.LOADER.get("start " + number, () => ({
      compatibilityDate: "${COMPATIBILITY_DATE}", mainModule: "main.js", modules,
    }));
    const answer = await worker.getEntrypoint().fetch("http://start/health");
    await answer.text();
    if (!answer.ok) throw new Error("status " + answer.status);
    return new Response(String(performance.now() - started));
  },
};
`;

/** Milliseconds from a cold isolate to its first answer: of the exchange, and of any Worker. */
export async function measureStarts({ script, wasm }, times) {
  const modules = {
    "loader.js": { type: "esm", contents: LOADER },
    "exchange.txt": { type: "text", contents: script },
    "exchange.bin": { type: "data", contents: wasm },
  };
  const miniflare = startMiniflare(modules, { LOADER: { type: "worker-loader" } });
  try {
    const url = await miniflare.ready;
    const start = async (what) => {
      const response = await fetch(new URL(what, url));
      if (!response.ok) throw new Error(`no start: ${await response.text()}`);
      return Number(await response.text());
    };
    const exchange = [];
    const trivial = [];
    // The first ones warm up workerd itself.
    for (let round = -2; round < times; round += 1) {
      const pair = [await start("exchange"), await start("trivial")];
      if (round < 0) continue;
      exchange.push(pair[0]);
      trivial.push(pair[1]);
    }
    return { exchange, trivial };
  } finally {
    await miniflare.dispose();
  }
}
