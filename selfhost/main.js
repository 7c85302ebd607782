// The exchange as workerd runs it, with the entrypoint for maintenance that Cloudflare's cron
// stands for elsewhere. It is bound to a socket that only the start script can reach.

import Exchange from "./index.js";

export default Exchange;

export class Maintenance extends Exchange {
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/tick") {
      const scheduledTime = Number(searchParams.get("now") ?? Date.now());
      await this.scheduled({ scheduledTime, cron: "self-hosted", noRetry() {} });
    }
    if (pathname === "/check") {
      const { status, body } = JSON.parse(await this.check(this.env));
      return Response.json(body, { status });
    }
    return Response.json({});
  }
}
