// S3 servers for tests, each with one empty bucket.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { Miniflare } from "miniflare";
import { COMPATIBILITY_DATE } from "../../selfhost/config.js";
import { readObjects } from "./cloudflare.js";

const BUCKET = "mess-exchange";
const KEYS = { accessKeyId: "mess", secretAccessKey: "a secret for tests" };

/** The settings of a self-hosted exchange for a bucket at `endpoint`. */
export function settings(endpoint, bucket = BUCKET) {
  return {
    STORAGE_TYPE: "s3",
    S3_ENDPOINT: endpoint,
    S3_BUCKET: bucket,
    S3_ACCESS_KEY: KEYS.accessKeyId,
    S3_SECRET_KEY: KEYS.secretAccessKey,
  };
}

/** A port of this machine that nobody uses. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The S3 server of Miniflare, over R2 in the folder `state`, or in memory. */
export async function startMiniflareS3(state) {
  const script = "export default { fetch() { return new Response() } }";
  const miniflare = new Miniflare({
    resourcePersistencePath: state,
    workers: [
      {
        config: {
          name: "store",
          compatibilityDate: COMPATIBILITY_DATE,
          manifest: {
            mainModule: "index.js",
            modules: { "index.js": { type: "esm", contents: script } },
          },
          env: {
            BUCKET: { type: "r2", name: BUCKET, dev: { experimentalS3Credentials: KEYS } },
          },
        },
      },
    ],
  });
  const url = await miniflare.ready;
  return {
    env: settings(new URL("/cdn-cgi/local/r2/s3", url).href),
    bucket: () => miniflare.getR2Bucket("BUCKET"),
    objects: async (prefix) => readObjects(await miniflare.getR2Bucket("BUCKET"), prefix),
    stop: () => miniflare.dispose(),
  };
}

/** moto's S3 server, which is another implementation; it does not look at signatures. */
export async function startMoto() {
  const port = await freePort();
  const python = process.env.MESS_PYTHON;
  assert.ok(python, "run this by `npm test`, or `npm test -- FILE`");
  const child = spawn(join(python, "moto_server"), ["-H", "127.0.0.1", "-p", String(port)], {
    stdio: "ignore",
  });
  const kill = () => child.kill();
  process.on("exit", kill);
  const ended = new Promise((resolve) => child.on("close", resolve));
  const url = `http://127.0.0.1:${port}`;
  for (let turn = 0; turn < 200; turn += 1) {
    const made = await fetch(`${url}/${BUCKET}`, { method: "PUT" }).catch(() => undefined);
    if (made?.ok) {
      return {
        env: settings(url),
        url,
        stop: async () => {
          kill();
          await ended;
          process.off("exit", kill);
        },
      };
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  child.kill();
  throw new Error("moto does not start");
}

/** The same store, reached at another address. */
export function through(store, url) {
  const { pathname } = new URL(store.env.S3_ENDPOINT);
  return { ...store, env: { ...store.env, S3_ENDPOINT: new URL(pathname, url).href } };
}
