// The exchange as it runs on Cloudflare: the built Worker in Miniflare, with a local R2 bucket.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Miniflare } from "miniflare";
import { COMPATIBILITY_DATE } from "../../selfhost/config.js";
import { Exchange } from "./exchange.js";
import { Outside } from "./outside.js";

/** Where the build lies. */
export const BUILD = new URL("../../build/", import.meta.url);
const BUCKET = "MESS_BUCKET";

async function worker(name, folder, vars, outside) {
  const contents = {
    "index.js": {
      type: "esm",
      contents: await readFile(new URL("index.js", folder), "utf8"),
    },
    "index_bg.wasm": {
      type: "wasm",
      contents: await readFile(new URL("index_bg.wasm", folder)),
    },
  };
  const env = { [BUCKET]: { type: "r2", name: "mess-exchange" } };
  for (const [key, value] of Object.entries(vars)) {
    env[key] = { type: "text", value };
  }
  return {
    config: {
      name,
      compatibilityDate: COMPATIBILITY_DATE,
      manifest: { mainModule: "index.js", modules: contents },
      env,
      triggers: [{ type: "scheduled", schedule: "* * * * *" }],
    },
    dev: { outboundService: outside.service },
  };
}

/** See startExchange. */
export async function start({ vars = {}, state, outside = new Outside() }) {
  const logs = [];
  const miniflare = new Miniflare({
    resourcePersistencePath: state,
    unsafeTriggerHandlers: true,
    handleStructuredLogs: (line) => logs.push(line),
    workers: [
      await worker("exchange", BUILD, vars, outside),
      await worker("tools", new URL("tools/", BUILD), vars, outside),
    ],
  });
  return new OnCloudflare(miniflare, await miniflare.ready, logs);
}

class OnCloudflare extends Exchange {
  storage = "r2";

  constructor(miniflare, url, logs) {
    super(url, logs);
    this.miniflare = miniflare;
  }

  stop() {
    return this.miniflare.dispose();
  }

  /** The bucket itself, past the Worker. */
  bucket() {
    return this.miniflare.getR2Bucket(BUCKET, "exchange");
  }

  /** All objects of the bucket below `prefix`, as text by key. */
  async objects(prefix = "") {
    return readObjects(await this.bucket(), prefix);
  }

  /** Runs the scheduled handler as if it were `at` (milliseconds), to its end. */
  async tick(at = Date.now()) {
    const exchange = await this.miniflare.getWorker("exchange");
    await exchange.scheduled({ cron: "* * * * *", scheduledTime: new Date(at) });
  }

  audit(at) {
    return this.tool(`/audit?now=${at}`);
  }

  /** The tools Worker's answer. */
  async tool(path) {
    const tools = await this.miniflare.getWorker("tools");
    const response = await tools.fetch(`http://tools${path}`);
    assert.equal(response.status, 200, await response.clone().text());
    return response.json();
  }
}

/** All objects of an R2 bucket below `prefix`, as text by key. */
export async function readObjects(bucket, prefix) {
  const objects = new Map();
  let cursor;
  do {
    const page = await bucket.list({ prefix, cursor });
    const texts = await Promise.all(
      page.objects.map(async ({ key }) => (await bucket.get(key))?.text()),
    );
    for (const [at, { key }] of page.objects.entries()) {
      if (texts[at] !== undefined) objects.set(key, texts[at]);
    }
    cursor = page.truncated ? page.cursor : undefined;
  } while (cursor);
  return objects;
}
