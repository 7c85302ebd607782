// The settings that the start script itself needs; all others are the exchange's, which checks
// them when it is asked whether it can run.

import { isIP } from "node:net";
import { resolve } from "node:path";

/**
 * What the exchange is told of its environment; a setting that is empty counts as not set. A test of
 * src/ compares these two lists with the settings that the exchange reads: strings only, one a line.
 */
export const EXCHANGE_SETTINGS = [
  "DEFAULT_EXCHANGE",
  "JOIN",
  "REGISTRATION_TOKEN",
  "OPERATOR_TOKEN",
  "EXCHANGES",
  "TRUST_PROXY",
  "LIMITS",
  "PUBLIC_URL",
  "ALLOWED_HOSTS",
  "DEFAULT_TIMEZONE",
  "OUTBOUND_ALLOW_PRIVATE",
  "SECRETS_KEY",
  "NUDGES",
];
export const STORAGE_SETTINGS = [
  "STORAGE_TYPE",
  "S3_ENDPOINT",
  "S3_BUCKET",
  "S3_ACCESS_KEY",
  "S3_SECRET_KEY",
  "S3_REGION",
];

/** Something that whoever starts the exchange has to mend, in a sentence. */
export class Problem extends Error {}

/**
 * The settings of a server: where it listens, and its bucket. `isUnasked` says that it listens on this
 * machine only because nobody has decided who may join.
 */
export function readServer(env) {
  const port = env.PORT || "3000";
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535 || Number(port) === 0) {
    throw new Problem("the setting PORT must be a number from 1 to 65535");
  }
  // Who has not said who may join, nor from where, gets an exchange that only this machine reaches.
  const isChosen = env.HOST || env.JOIN || env.REGISTRATION_TOKEN;
  const host = env.HOST || (isChosen ? "*" : "127.0.0.1");
  if (host !== "*" && !isIP(host)) {
    throw new Problem("the setting HOST must be an IP address, or * for all");
  }
  const address = isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
  return { host, port, address, isUnasked: !isChosen, ...readBucket(env) };
}

/**
 * The settings of the exchange, by name, and the bucket that they name: `disk` is the folder where
 * it is one. `prefix` stands before the names of a bucket's settings in the environment.
 */
export function readBucket(env, prefix = "") {
  const vars = {};
  for (const name of prefix ? STORAGE_SETTINGS : [...EXCHANGE_SETTINGS, ...STORAGE_SETTINGS]) {
    if (env[prefix + name]) vars[prefix + name] = env[prefix + name];
  }
  const needed = prefix ? ["STORAGE_TYPE"] : [];
  if (prefix && env[`${prefix}STORAGE_TYPE`] === "filesystem") needed.push("STORAGE_PATH");
  for (const name of needed) {
    if (!env[prefix + name]) throw new Problem(`the setting ${prefix}${name} must be set`);
  }
  vars[`${prefix}STORAGE_TYPE`] ??= "filesystem";
  const type = vars[`${prefix}STORAGE_TYPE`];
  if (type !== "filesystem" && type !== "s3") {
    throw new Problem(
      `the setting ${prefix}STORAGE_TYPE must be filesystem or s3 here: a Worker has R2 as a ` +
        "binding, all others reach it as s3, at https://<account id>.r2.cloudflarestorage.com",
    );
  }
  const disk =
    type === "filesystem" ? resolve(env[`${prefix}STORAGE_PATH`] || "./data") : undefined;
  return { vars, disk, setting: `${prefix}STORAGE_PATH` };
}
