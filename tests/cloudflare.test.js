// What only Cloudflare has: the storage contract on the R2 binding, and settings that are found wrong
// at the first request.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExchange } from "./support/exchange.js";

let exchange;
before(async () => {
  exchange = await startExchange();
});
after(() => exchange.stop());

test("R2 keeps every clause of the contract", async () => {
  const outcomes = await exchange.tool("/conformance");
  assert.ok(outcomes.length >= 16);
  assert.deepEqual(
    outcomes.filter((outcome) => outcome.problem !== null),
    [],
  );
  assert.equal((await exchange.objects("conformance/")).size, 0, "something is left behind");
});

test("a bucket that ignores conditions is found out", async () => {
  const outcomes = await exchange.tool("/conformance?broken");
  const failed = outcomes.filter((outcome) => outcome.problem !== null);
  assert.deepEqual(
    failed.map((outcome) => outcome.clause),
    [
      "absent_puts_once",
      "matches_swaps",
      "matches_needs_an_object",
      "one_creator_wins",
      "one_swapper_wins",
    ],
  );
});

test("a wrong setting is named in the log, not in the answer", async () => {
  const broken = await startExchange({ vars: { DEFAULT_EXCHANGE: "not an id" } });
  try {
    const answer = await broken.fetch("/health");
    assert.equal(answer.status, 500);
    assert.ok(!(await answer.text()).includes("DEFAULT_EXCHANGE"));
    assert.ok(broken.logs.some((log) => log.message.includes("DEFAULT_EXCHANGE")));
  } finally {
    await broken.stop();
  }
});
