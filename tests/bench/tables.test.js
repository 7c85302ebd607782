// How the benchmarks write their tables into docs/speed.md.

import assert from "node:assert/strict";
import { test } from "node:test";
import { insertTables } from "./tables.js";

const page = `# Speed

<!-- bench:selfhosted -->
old
<!-- /bench:selfhosted -->

<!-- bench:selfhosted-s3 -->
<!-- /bench:selfhosted-s3 -->

Said by hand.
`;

test("tables replace what stands between their marks, and nothing else", () => {
  const once = insertTables(page, "selfhosted", "| new |\n");
  assert.equal(once, page.replace("old", "| new |"));
  assert.equal(insertTables(once, "selfhosted", "| new |"), once);
  const s3 = insertTables(page, "selfhosted-s3", "| s3 |");
  assert.ok(s3.includes("<!-- bench:selfhosted-s3 -->\n| s3 |\n<!-- /bench:selfhosted-s3 -->\n"));
  assert.ok(s3.includes("\nold\n") && s3.endsWith("\nSaid by hand.\n"));
});

test("a page without the marks is refused", () => {
  assert.throws(() => insertTables(page, "r2", "| new |"), /no marks of bench:r2/);
  assert.throws(() => insertTables("<!-- bench:r2 -->\n", "r2", ""), /no marks of bench:r2/);
});
