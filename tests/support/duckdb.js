// DuckDB, as others would read the log with it.

import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";

const VIEWS = new URL("../../deploy/duckdb/views.sql", import.meta.url);

/** A database in memory in which `statements` were run; gives a function that queries it. */
export async function openDuckDB(...statements) {
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  for (const sql of statements) await connection.run(sql);
  const query = async (sql) => (await connection.runAndReadAll(sql)).getRowObjectsJson();
  query.close = () => {
    connection.closeSync();
    instance.closeSync();
  };
  return query;
}

/** The same with the project's views over a bucket, a folder or `s3://…`. */
export async function openViews(bucket, ...statements) {
  const views = await readFile(VIEWS, "utf8");
  return openDuckDB(...statements, `SET VARIABLE bucket = '${bucket}'`, views);
}

/** What lets DuckDB reach an S3 server. Its extension comes from a package, not from its site. */
export function reachS3({ S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY }) {
  const python = process.env.MESS_PYTHON;
  assert.ok(python, "run this by `npm test`, or `npm test -- FILE`");
  const [extension] = globSync(
    join(python, "../lib/python*/site-packages/**/httpfs.duckdb_extension"),
  );
  assert.ok(extension, "the package duckdb-extension-httpfs holds no extension");
  const { host } = new URL(S3_ENDPOINT);
  return [
    `LOAD '${extension}'`,
    `CREATE SECRET (TYPE s3, KEY_ID '${S3_ACCESS_KEY}', SECRET '${S3_SECRET_KEY}',
       ENDPOINT '${host}', USE_SSL false, URL_STYLE 'path', REGION 'us-east-1')`,
  ];
}
