// The outside world of an exchange: an HTTP server that every outgoing request reaches, whatever
// its host, and that answers as a test says.

import { setTimeout as sleep } from "node:timers/promises";

/** Reactions that are no answers. */
export const HANG_UP = Symbol("the connection is closed without an answer");
export const SILENCE = Symbol("the connection stays open without an answer");

export class Outside {
  /** What was sent: {method, host, path, headers, body}, in order. */
  sent = [];

  /** How the outside reacts: `react(request)` gives {status, headers, body}, HANG_UP or SILENCE. */
  constructor(react = () => ({ status: 200 })) {
    this.react = react;
  }

  /** The service of Miniflare through which all outgoing requests go. */
  get service() {
    return {
      type: "node-handler",
      handler: (request, response) => this.#handle(request, response),
    };
  }

  async #handle(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const { host, ...headers } = request.headers;
    // What the runtime and its simulator add is none of the exchange's doing.
    for (const name of ["content-length", "cf-worker", "mf-custom-node-service"]) {
      delete headers[name];
    }
    const noted = { method: request.method, host, path: request.url, headers, body };
    this.sent.push(noted);
    const reaction = await this.react(noted);
    if (reaction === HANG_UP) return request.socket.destroy();
    if (reaction === SILENCE) return;
    response.writeHead(reaction.status, {
      "content-type": "application/json",
      ...reaction.headers,
    });
    const text = reaction.body ?? "";
    response.end(typeof text === "string" ? text : JSON.stringify(text));
  }

  /** The requests to `host` since the last call that asked for them; others stay. */
  take(host) {
    const taken = this.sent.filter((request) => host === undefined || request.host === host);
    this.sent = this.sent.filter((request) => !taken.includes(request));
    return taken;
  }

  /** Waits until `count` requests have come, and takes them. */
  async expect(count) {
    for (let waited = 0; waited < 5_000 && this.sent.length < count; waited += 10) await sleep(10);
    return this.take();
  }
}
