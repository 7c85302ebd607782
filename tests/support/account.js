// A stand-in of Cloudflare's API, as far as `npm run deploy` uses it: an account with R2 buckets and
// Workers. What wrangler sends it is kept. Paths, answers and error codes are those of
// https://developers.cloudflare.com/api, and of what wrangler 4.164 makes of them.

import http from "node:http";

/** The parts of a path below the account. */
const BUCKETS = /^\/r2\/buckets$/;
const BUCKET = /^\/r2\/buckets\/([\w-]+)$/;
const SECRETS = /^\/workers\/scripts\/([\w-]+)\/secrets$/;
/** Where the first version of a Worker is uploaded, and where later ones are. */
const SCRIPT = /^\/workers\/scripts\/([\w-]+)$/;
const VERSIONS = /^\/workers\/scripts\/([\w-]+)\/versions$/;
const OF_A_SCRIPT = /^\/workers\/(?:scripts|services|workers)\/([\w-]+)(\/.*)?$/;

export class Account {
  buckets = new Set();
  /** Workers: for each the names and values of its bindings, by name. */
  workers = new Map();
  /** What was called, as "METHOD /path", and each version that was uploaded. */
  calls = [];
  versions = [];
  /** What to answer to calls that match instead: [[pattern, status, code, message]]. */
  failures = [];

  static async start() {
    const account = new Account();
    account.server = http.createServer((request, response) => account.#answer(request, response));
    await new Promise((resolve) => account.server.listen(0, "127.0.0.1", resolve));
    return account;
  }

  stop() {
    return new Promise((resolve) => this.server.close(resolve));
  }

  /** The environment in which wrangler uses it. */
  get env() {
    const base = `http://127.0.0.1:${this.server.address().port}/client/v4`;
    return { CLOUDFLARE_API_BASE_URL: base, CLOUDFLARE_API_TOKEN: "a token of the account" };
  }

  async #answer(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString("latin1");
    const path = request.url.replace(/^\/client\/v4/, "").replace(/\?.*/, "");
    const call = `${request.method} ${path}`;
    this.calls.push(call);
    const failure = this.failures.find(([pattern]) => pattern.test(call));
    const [status, result] = failure ? failure.slice(1) : this.#result(request.method, path, body);
    const errors = status === 200 ? [] : [result];
    response.writeHead(status, { "Content-Type": "application/json" });
    const success = status === 200;
    const page = { page: 1, per_page: 50, total_pages: 1, count: 1, total_count: 1 };
    response.end(
      JSON.stringify({
        success,
        errors,
        messages: [],
        result: success ? result : null,
        result_info: page,
      }),
    );
  }

  #result(method, path, body) {
    if (path === "/user") return [200, { id: "user", email: "you@example.com" }];
    if (path === "/user/tokens/verify") return [200, { id: "token", status: "active" }];
    if (path === "/accounts") return [200, [{ id: "account", name: "Yours" }]];
    if (path === "/memberships") return [200, [{ account: { id: "account", name: "Yours" } }]];
    const below = path.replace(/^\/accounts\/account/, "");
    const at = (pattern) => pattern.exec(below)?.[1];
    if (BUCKETS.test(below)) return this.#ofBuckets(method, body);
    if (at(BUCKET)) {
      const isThere = this.buckets.has(at(BUCKET));
      const missing = { code: 10006, message: "The specified bucket does not exist." };
      return isThere ? [200, { name: at(BUCKET) }] : [404, missing];
    }
    if (below === "/workers/subdomain") return [200, { subdomain: "you" }];
    if (method === "PUT" && at(SCRIPT)) return this.#upload(at(SCRIPT), body);
    if (method === "POST" && at(VERSIONS)) return this.#upload(at(VERSIONS), body);
    const worker = this.workers.get(at(OF_A_SCRIPT));
    if (!worker)
      return [404, { code: 10007, message: "This Worker does not exist on your account." }];
    if (at(SECRETS)) {
      const secrets = [...worker].filter(([, { type }]) => type === "secret_text");
      return [200, secrets.map(([name, { type }]) => ({ name, type }))];
    }
    if (below.endsWith("/deployments")) return [200, { deployments: [] }];
    const subdomain = { enabled: true, previews_enabled: true };
    const script = { tag: "tag", tags: [], last_deployed_from: "wrangler" };
    const environment = { environment: "production", script };
    const rest = { bindings: [], schedules: [], default_environment: environment };
    return [200, { id: "id", subdomain, ...subdomain, ...rest }];
  }

  #ofBuckets(method, body) {
    if (method === "GET") {
      return [
        200,
        { buckets: [...this.buckets].map((name) => ({ name, creation_date: "2026-01-01" })) },
      ];
    }
    const { name } = JSON.parse(body);
    if (this.buckets.has(name)) {
      const message = "The bucket you tried to create already exists, and you own it.";
      return [409, { code: 10004, message }];
    }
    this.buckets.add(name);
    return [200, { name }];
  }

  /** A version takes the place of the last one; secrets that it does not name stay. */
  #upload(name, body) {
    const [, text] = /name="metadata"[^{]*(\{.*\})\r?\n/.exec(body);
    const version = new Map(JSON.parse(text).bindings.map((binding) => [binding.name, binding]));
    const missing = [...version.values()].find(
      ({ type, bucket_name }) => type === "r2_bucket" && !this.buckets.has(bucket_name),
    );
    if (missing) {
      return [400, { code: 10085, message: `R2 bucket '${missing.bucket_name}' not found.` }];
    }
    this.versions.push({ worker: name, bindings: version });
    const kept = [...(this.workers.get(name) ?? [])].filter(
      ([, { type }]) => type === "secret_text",
    );
    this.workers.set(name, new Map([...kept, ...version]));
    const resources = { script: { etag: "etag" } };
    return [200, { id: name, etag: "etag", startup_time_ms: 1, tag: "tag", resources }];
  }
}
