// The floor of the benchmark: a Worker that, for each call, makes the R2 operations that the
// exchange makes — as many, of the same kind, in the same order, equally parallel, and after the
// answer what the exchange does after its answer — and nothing else. It parses nothing, decides
// nothing, knows no keys and writes no log.
//
// What it writes and answers is what the exchange wrote and answered when the benchmark tried
// each call on it (SAMPLES), so that all sizes are equal.

import { env } from "cloudflare:workers";

const SAMPLES = JSON.parse(env.SAMPLES);

const bucket = env.MESS_BUCKET;
const ABSENT = { etagDoesNotMatch: "*" };
const JSON_TYPE = { headers: { "Content-Type": "application/json; charset=utf-8" } };
const CREATED = { status: 201, ...JSON_TYPE };
const REF_CHARACTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** Pages of executors that the exchange itself looks at after a change. */
const WRITERS_PAGES = 4;

/** The present index entries of each thread that was posted here: its own, to be replaced. */
const entriesOf = new Map();

export default {
  async fetch(request, _env, context) {
    const { pathname, search } = new URL(request.url);
    if (pathname === "/health") return answer(SAMPLES.health);
    const [name, id] = pathname.split("/").slice(5);
    if (request.method === "GET") {
      if (id) return getThread(id);
      if (name === "executors") return list("executors/exchange=home/", SAMPLES.executors);
      if (search) return list("index/exchange=home/status=pending/", SAMPLES.pending);
      return list("index/exchange=home/all/", SAMPLES.all);
    }
    const body = await request.text();
    if (name === "register") return register(context);
    if (!id) return post(context);
    return body.includes('"status"')
      ? patch(id, SAMPLES.claim, context)
      : patch(id, SAMPLES.message, context);
  },
};

function answer({ answer }) {
  return new Response(answer, JSON_TYPE);
}

async function getThread(ref) {
  await read(threadKey(ref));
  return answer(SAMPLES.thread);
}

async function list(prefix, sample) {
  await bucket.list({ prefix, limit: 100, include: ["customMetadata"] });
  return answer(sample);
}

async function post(context) {
  const sample = SAMPLES.post;
  const ref = newRef();
  const due = dueKey();
  await bucket.put(due, sample.due);
  await bucket.put(threadKey(ref), sample.thread, { onlyIf: ABSENT });
  const entries = newEntries(ref, "pending");
  await Promise.all([putLog(sample), ...putEntries(entries, sample)]);
  entriesOf.set(ref, entries);
  context.waitUntil(tidy(ref, [], due));
  return new Response(JSON.stringify({ ref, status: "pending" }), CREATED);
}

async function patch(ref, sample, context) {
  const due = dueKey();
  const [thread] = await Promise.all([read(threadKey(ref)), bucket.put(due, sample.due)]);
  await bucket.put(threadKey(ref), thread.text + sample.growth, {
    onlyIf: { etagMatches: thread.etag },
  });
  const before = entriesOf.get(ref);
  const entries = newEntries(ref, "claimed");
  // The entry in the list of another status goes before the answer, one that is only older after.
  const left = before.status === entries.status ? [] : [before.byStatus];
  const outdated = before.status === entries.status ? [before.all, before.byStatus] : [before.all];
  await Promise.all([
    putLog(sample),
    ...putEntries(entries, sample),
    ...left.map((key) => bucket.delete(key)),
  ]);
  entriesOf.set(ref, entries);
  context.waitUntil(tidy(ref, outdated, due));
  return answer(sample);
}

async function register(context) {
  const sample = SAMPLES.register;
  const id = crypto.randomUUID();
  const record = `executors/exchange=home/${id}.json`;
  const due = dueKey();
  await Promise.all([bucket.get(record), bucket.put(due, sample.due)]);
  const hash = `${crypto.randomUUID()}${crypto.randomUUID()}`.replaceAll("-", "");
  await bucket.put(`keys/exchange=home/${hash}.json`, sample.key, { onlyIf: ABSENT });
  await bucket.put(record, sample.record, {
    onlyIf: ABSENT,
    customMetadata: { summary: sample.summary },
  });
  await putLog(sample);
  context.waitUntil(bucket.delete(due));
  return new Response(sample.answer, CREATED);
}

/** After the answer: look whether the thread has moved on, remove what is outdated, list whom to tell. */
async function tidy(ref, outdated, due) {
  await read(threadKey(ref));
  await Promise.all(outdated.map((key) => bucket.delete(key)));
  await listPages("executors/exchange=home/", WRITERS_PAGES);
  await bucket.delete(due);
}

/** Up to so many pages of a list. */
async function listPages(prefix, most) {
  let cursor;
  for (let page = 0; page < most; page++) {
    const include = ["customMetadata"];
    const { truncated, ...rest } = await bucket.list({ prefix, limit: 100, include, cursor });
    if (!truncated) return;
    cursor = rest.cursor;
  }
}

async function read(key) {
  const object = await bucket.get(key);
  return { text: await object.text(), etag: object.etag };
}

function putLog({ log }) {
  const day = new Date().toISOString().slice(0, 10).replaceAll("-", "/");
  const key = `events/exchange=home/${day}/${crypto.randomUUID()}.jsonl`;
  return bucket.put(key, log, { onlyIf: ABSENT });
}

function putEntries({ all, byStatus }, { entry }) {
  const options = { customMetadata: { summary: entry } };
  return [all, byStatus].map((key) => bucket.put(key, entry, options));
}

function threadKey(ref) {
  return `threads/exchange=home/${ref}.json`;
}

function dueKey() {
  return `due/${Date.now() + 60_000}-${crypto.randomUUID()}.json`;
}

function newRef() {
  const random = crypto.getRandomValues(new Uint8Array(5));
  const tail = Array.from(random, (byte) => REF_CHARACTERS[byte % 32]).join("");
  return `${new Date().toISOString().slice(0, 10)}-${tail}`;
}

/** Keys as the exchange makes them: newest first. */
function newEntries(ref, status) {
  const now = new Date();
  const time = 9_999_999_999_999 - now.getTime();
  const day = 99_999_999 - Number(now.toISOString().slice(0, 10).replaceAll("-", ""));
  return {
    status,
    all: `index/exchange=home/all/${day}/${time}-${ref}`,
    byStatus: `index/exchange=home/status=${status}/${time}-${ref}`,
  };
}
