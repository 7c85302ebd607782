// Conversations over HTTP: blocks that act, questions and replies, confirmations, capabilities.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startExchange } from "../support/exchange.js";

let exchange;
let agent;
let phone;
let tablet;
before(async () => {
  exchange = await startExchange();
  agent = await exchange.register("agent");
  phone = await exchange.register("phone", { capabilities: ["see", { lift: { kg: 10 } }] });
  tablet = await exchange.register("tablet", { capabilities: ["see"] });
});
after(async () => {
  try {
    await exchange.rest();
    await exchange.assertSound();
  } finally {
    await exchange.stop();
  }
});

const write = (client, ref, ...mess) => client.patch(`requests/${ref}`, { mess });
const status = (code, more = {}) => ({ status: { code, ...more } });
const reply = (content) => ({ reply: content });
const response = (...content) => ({ response: { content } });
const read = async (ref) => (await agent.get(`requests/${ref}`)).body.thread;
const QUESTION = { field: "area", question: "Which one?", options: ["sink", "stove"] };

function assertRefused(answer, expected, code, more = {}) {
  assert.equal(answer.status, expected, answer.text);
  assert.equal(answer.body.code, code);
  for (const [name, value] of Object.entries(more)) assert.deepEqual(answer.body[name], value);
}

/** The changes of a request's status in the log, in their order. */
async function changes(ref) {
  await exchange.rest();
  const lines = (await exchange.log()).filter(
    (line) => line.thread_ref === ref && line.event_type === "status_changed",
  );
  const place = ({ ts, payload }) => `${ts} ${payload.step ?? 0}`;
  return lines.sort((a, b) => (place(a) < place(b) ? -1 : 1));
}

test("a block sets the status, with its details in the log and whole in the message", async () => {
  const ref = await agent.ask("Shop");
  const block = status("claimed", {
    re: "last",
    executor: "phone",
    message: "on my way",
    estimate: "PT45M",
    eta: "17:30",
    shoes: ["red"],
  });
  const claimed = await write(phone, ref, { v: "1.1.0" }, block);
  assert.deepEqual(claimed.body, { ref, status: "claimed", version: 2 });
  const [change] = await changes(ref);
  assert.deepEqual(change.payload, {
    old_status: "pending",
    new_status: "claimed",
    executor_id: "phone",
    message: "on my way",
    estimate: "PT45M",
    eta: "17:30",
  });
  assert.deepEqual((await read(ref)).messages[1].mess, [{ v: "1.1.0" }, block]);
});

test("several steps in one call are one commit with an event each", async () => {
  const ref = await agent.ask("Quick");
  const mess = [status("claimed"), status("in_progress", { progress_pct: 50 }), response("done")];
  const done = await phone.patch(`requests/${ref}`, { status: "completed", mess });
  assert.deepEqual(done.body, { ref, status: "completed", version: 2 });
  const again = await phone.patch(`requests/${ref}`, { status: "completed", mess });
  assert.deepEqual(again.body, done.body, "a retry is safe");
  const steps = await changes(ref);
  assert.deepEqual(
    steps.map(({ payload }) => [payload.step, payload.new_status]),
    [
      [1, "claimed"],
      [2, "in-progress"],
      [3, "completed"],
    ],
  );
  assert.equal(new Set(steps.map(({ ts }) => ts)).size, 1);
  const other = await agent.ask("Refused as a whole");
  const refused = await phone.patch(`requests/${other}`, {
    mess: [status("completed"), status("held")],
  });
  assertRefused(refused, 409, "ended", { status: "completed" });
  assert.equal((await read(other)).version, 1);
  const unlike = await phone.patch(`requests/${other}`, { status: "held", mess });
  assert.equal(unlike.status, 200, "after a response the status says how it stands");
});

test("a status field that is not the last step is refused", async () => {
  const ref = await agent.ask("Contradiction");
  const body = { status: "completed", mess: [status("claimed")] };
  assertRefused(await phone.patch(`requests/${ref}`, body), 400, "invalid", { field: "status" });
});

test("a response delivers, a cancel cancels", async () => {
  const ref = await agent.ask("Deliver");
  await write(phone, ref, status("claimed"));
  assertRefused(await write(tablet, ref, response("mine")), 409, "held_by_other", {
    executor_id: "phone",
  });
  assert.equal((await write(phone, ref, response("It is shut."))).body.status, "completed");
  assert.equal((await write(phone, ref, response("And a photo."))).body.version, 4);
  const other = await agent.ask("Withdraw");
  await write(phone, other, status("claimed"));
  const cancelled = await write(agent, other, { cancel: { reason: "found it" } });
  assert.equal(cancelled.body.status, "cancelled");
  const last = (await changes(other)).at(-1);
  assert.deepEqual([last.payload.reason, last.payload.executor_id], ["found it", "phone"]);
});

test("a question is answered by the requestor, among its options", async () => {
  const ref = await agent.ask("Clean up");
  await write(phone, ref, status("claimed"), status("needs_input", { questions: [QUESTION] }));
  const asked = await read(ref);
  assert.deepEqual([asked.status, asked.details], ["needs_input", { questions: [QUESTION] }]);
  assertRefused(
    await write(tablet, ref, reply({ answers: { area: "sink" } })),
    403,
    "not_requestor",
    {
      requestor_id: "agent",
    },
  );
  for (const [content, field] of [
    [{ answers: { area: "roof" } }, "mess[0].reply.answers.area"],
    [{ answers: { other: 1 } }, "mess[0].reply.answers.area"],
    [{ confirm: true }, "mess[0].reply.answers"],
  ]) {
    assertRefused(await write(agent, ref, reply(content)), 400, "invalid", { field });
  }
  const answered = await write(agent, ref, reply({ answers: { area: "sink", also: "hurry" } }));
  assert.equal(answered.body.status, "in-progress");
  const thread = await read(ref);
  assert.equal(thread.executor_id, "phone");
  assert.deepEqual(thread.messages.at(-1).mess, [
    reply({ answers: { area: "sink", also: "hurry" } }),
  ]);
  assertRefused(
    await write(agent, ref, reply({ answers: { area: "stove" } })),
    409,
    "no_open_question",
    {
      status: "in-progress",
    },
  );
});

test("of two replies to one question one counts", async () => {
  const ref = await agent.ask("Which?");
  await write(phone, ref, status("needs_input", { questions: [QUESTION] }));
  const replies = await Promise.all(
    ["sink", "stove"].map((area) => write(agent, ref, reply({ answers: { area } }))),
  );
  assert.deepEqual(replies.map((answer) => answer.status).sort(), [200, 409]);
  assert.equal((await read(ref)).messages.length, 3);
  assert.equal((await changes(ref)).length, 2);
});

test("a reply and a cancellation at once leave it cancelled", async () => {
  const ref = await agent.ask("Never mind");
  await write(phone, ref, status("needs_input"));
  const [cancelled, replied] = await Promise.all([
    write(agent, ref, { cancel: {} }),
    write(agent, ref, reply({ answers: { it: "left" } })),
  ]);
  assert.equal(cancelled.status, 200, cancelled.text);
  assert.ok([200, 409].includes(replied.status), replied.text);
  assert.equal((await read(ref)).status, "cancelled");
  assert.equal((await changes(ref)).length, replied.status === 200 ? 3 : 2);
});

test("what must be confirmed first is not done before", async () => {
  const ref = await agent.ask("Close the valve", { confirm_before: true });
  assert.equal((await read(ref)).confirm_before, true);
  await write(phone, ref, status("claimed"));
  for (const body of [{ status: "completed" }, { mess: [response("shut")] }]) {
    const refused = await phone.patch(`requests/${ref}`, body);
    assertRefused(refused, 409, "unconfirmed", { status: "claimed" });
    assert.match(refused.body.error, /needs_confirmation/);
  }
  const plan = status("needs_confirmation", { action: "close it", reversible: true });
  await write(phone, ref, plan);
  assert.equal((await write(agent, ref, reply({ confirm: false }))).body.status, "held");
  assertRefused(await write(phone, ref, response("shut")), 409, "unconfirmed");
  await write(phone, ref, plan);
  assert.equal((await write(agent, ref, reply({ confirm: true }))).body.status, "in-progress");
  assert.equal((await write(phone, ref, response("shut"))).body.status, "completed");
});

test("who cannot do it may not claim it", async () => {
  const ref = await agent.ask("Carry", { requires: ["see", { lift: { kg: 5 } }] });
  assert.deepEqual((await read(ref)).requires, ["lift", "see"]);
  assertRefused(await write(tablet, ref, status("claimed")), 403, "missing_capabilities", {
    missing: ["lift"],
  });
  assert.equal((await write(tablet, ref, { note: "who helps?" })).status, 200);
  assert.equal((await write(phone, ref, status("claimed"))).status, 200);
  await tablet.patch("executors/tablet", { capabilities: ["see", "lift"] });
  const taken = await tablet.patch(`requests/${ref}`, { status: "claimed", takeover: true });
  assert.equal(taken.status, 200, "as soon as it says that it can");
});

test("capabilities: what is claimed and what the catalogue says", async () => {
  const member = await exchange.register("robot", {
    exchange: "skills",
    capabilities: ["walk", { "lift heavy/things": { kg: 90 } }],
  });
  const put = (id, body) => member.send("PUT", `capabilities/${encodeURIComponent(id)}`, body);
  const entry = { description: "Carries what two cannot.", tags: ["strong", "indoor"] };
  const stored = await put("lift heavy/things", entry);
  assert.equal(stored.status, 200, stored.text);
  assert.deepEqual(stored.body, { id: "lift heavy/things", ...entry });
  await put("see", { tags: ["sense"] });
  const { capabilities } = (await member.get("capabilities")).body;
  assert.deepEqual(capabilities, [
    { id: "lift heavy/things", ...entry, executors: ["robot"] },
    { id: "see", description: "", tags: ["sense"], executors: [] },
    { id: "walk", description: "", tags: [], executors: ["robot"] },
  ]);
  const tagged = (await member.get("capabilities?tag=sense")).body.capabilities;
  assert.deepEqual(
    tagged.map(({ id }) => id),
    ["see"],
  );
  assert.deepEqual((await agent.get("capabilities?tag=sense")).body.capabilities, []);
  await put("see", { description: "Looks." });
  const replaced = (await member.get("capabilities")).body.capabilities;
  assert.deepEqual(replaced[1], { id: "see", description: "Looks.", tags: [], executors: [] });
});

test("blocks that act, malformed in every way", async () => {
  const ref = await agent.ask("Malformed");
  await exchange.rest();
  const kept = await exchange.objects();
  const values = [null, 0, true, "", "x", [], {}, [[]], { code: {} }, { confirm: 1 }];
  for (const kind of ["status", "cancel", "reply"]) {
    for (const value of values) {
      if (kind === "cancel" && value && typeof value === "object" && !Array.isArray(value))
        continue;
      const answer = await agent.patch(`requests/${ref}`, {
        mess: [{ note: 1 }, { [kind]: value }],
      });
      assertRefused(answer, 400, "invalid");
      assert.match(answer.body.field, /^mess\[1\]/);
    }
  }
  const question = { field: "a", question: "?" };
  for (const questions of [
    {},
    [1],
    [{}],
    [question, question],
    [{ ...question, options: [{}] }],
    Array.from({ length: 21 }, (_, n) => ({ ...question, field: `${n}` })),
  ]) {
    const mess = [{ status: { code: "needs_input", questions } }];
    const answer = await agent.patch(`requests/${ref}`, { mess });
    assertRefused(answer, 400, "invalid");
  }
  for (const body of [
    { mess: [{ status: { code: "claimed" }, reply: { confirm: true } }] },
    { status: "completed", mess: [{ status: { code: "claimed" } }] },
    { status: "claimed", lease: "PT1S" },
    { status: "claimed", lease: "P1Y" },
    { status: "claimed", lease: `P${"9".repeat(400)}D` },
    { lease: "PT1H" },
  ]) {
    assertRefused(await agent.patch(`requests/${ref}`, body), 400, "invalid");
  }
  await exchange.rest();
  assert.deepEqual(await exchange.objects(), kept);
});

test("however a request ends, its outcome says how", async () => {
  for (const [change, text, content] of [
    [{ status: "completed", message: "It is locked" }, "It is locked", null],
    [{ status: "completed" }, null, null],
    [{ mess: [response("Yes,", "locked")] }, "Yes,\nlocked", ["Yes,", "locked"]],
    [{ mess: [{ response: { content: "Yes" } }] }, "Yes", ["Yes"]],
    [{ status: "failed", reason: "no key" }, "no key", null],
    [{ status: "declined", message: "not today" }, "not today", null],
    [{ mess: [status("partial", { message: "half of it" })] }, "half of it", null],
    [{ mess: [response("done")], status: "partial" }, "done", ["done"]],
    [{ mess: [response({ image: "data:image/png;base64,AA==" })] }, null, undefined],
  ]) {
    const ref = await agent.ask("Is the door locked?");
    await phone.patch(`requests/${ref}`, { status: "claimed" });
    assert.equal((await read(ref)).outcome, undefined, "it is not over");
    const ended = await phone.patch(`requests/${ref}`, change);
    assert.equal(ended.status, 200, ended.text);
    const { outcome, details } = await read(ref);
    assert.deepEqual([outcome.status, outcome.from], [ended.body.status, "phone"]);
    assert.equal(outcome.text, text, JSON.stringify(change));
    if (content !== undefined) assert.deepEqual(outcome.content, content);
    if (change.message) assert.equal(details.message, change.message);
  }
  const withdrawn = await agent.ask("Never mind");
  await agent.patch(`requests/${withdrawn}`, { mess: [{ cancel: { reason: "found it" } }] });
  const { outcome } = await read(withdrawn);
  assert.deepEqual(
    [outcome.status, outcome.text, outcome.from],
    ["cancelled", "found it", "agent"],
  );
});

test("what was delivered before the end is the outcome, and what others wrote is not", async () => {
  const ref = await agent.ask("Measure the room");
  await write(phone, ref, status("claimed"));
  const delivered = { response: { content: ["21 degrees"], data: { celsius: 21 } } };
  await phone.patch(`requests/${ref}`, { mess: [delivered, status("in-progress")] });
  await write(tablet, ref, { response: { text: "I think 30" } });
  await write(phone, ref, status("completed"));
  await write(tablet, ref, response("Really 30"));
  const { outcome } = await read(ref);
  assert.deepEqual([outcome.text, outcome.data], ["21 degrees", { celsius: 21 }]);
});

test("every event of a request can be read, in order", async () => {
  const ref = await agent.ask("Is the door locked?", { priority: "elevated" });
  await phone.patch(`requests/${ref}`, { status: "claimed", message: "on my way" });
  await write(phone, ref, response("Yes"));
  const answer = await agent.get(`requests/${ref}/events`);
  assert.equal(answer.status, 200, answer.text);
  const told = answer.body.events.map(({ type, from, status, message }) => [
    type,
    from,
    status,
    message,
  ]);
  assert.deepEqual(told, [
    ["thread_created", "agent", undefined, undefined],
    ["message_added", "agent", undefined, undefined],
    ["status_changed", "phone", "claimed", "on my way"],
    ["status_changed", "phone", "completed", undefined],
    ["message_added", "phone", undefined, undefined],
  ]);
  const [created, , claimed, , last] = answer.body.events;
  assert.equal(created.request.intent, "Is the door locked?");
  assert.deepEqual([claimed.previous_status, claimed.executor_id], ["pending", "phone"]);
  assert.deepEqual(last.mess, [response("Yes")]);
  await exchange.rest();
  const logged = (await exchange.log()).filter((line) => line.thread_ref === ref);
  const ids = (list, name) => list.map((event) => event[name]).sort();
  assert.deepEqual(ids(answer.body.events, "id"), ids(logged, "event_id"));
  assertRefused(await agent.get("requests/2025-01-01-ZZZZ/events"), 404, "no_such_request");
});
