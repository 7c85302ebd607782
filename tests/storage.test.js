// The storage contract, run inside workerd on the R2 binding.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExchange } from "./support/exchange.js";

let exchange;
before(async () => {
  exchange = await startExchange();
});
after(() => exchange.stop());

test("R2 keeps every clause of the contract", async () => {
  const outcomes = await exchange.inspect("/conformance");
  assert.ok(outcomes.length >= 16);
  assert.deepEqual(
    outcomes.filter((outcome) => outcome.problem !== null),
    [],
  );
  assert.equal((await exchange.objects("conformance/")).size, 0, "something is left behind");
});

test("a bucket that ignores conditions is found out", async () => {
  const outcomes = await exchange.inspect("/conformance?broken");
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
