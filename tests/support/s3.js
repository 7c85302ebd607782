// S3 servers for tests, each with one empty bucket.

import { Miniflare } from "miniflare";
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

/** The S3 server of Miniflare, over R2 in the folder `state`, or in memory. */
export async function startMiniflareS3(state) {
  const script = "export default { fetch() { return new Response() } }";
  const miniflare = new Miniflare({
    resourcePersistencePath: state,
    workers: [
      {
        config: {
          name: "store",
          compatibilityDate: "2026-11-17",
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
