// A proxy in front of an S3 server that ill-treats requests as a test says.

import http from "node:http";

/**
 * Starts a proxy to `target`. `treat(request)` says what becomes of a request, which it may change:
 * undefined (it is passed on), {status} (answered with it), {status, after: true} (passed on, and
 * answered with the status all the same), {hangUp: true}, {delay: ms}.
 */
export async function startProxy(target, treat) {
  const { hostname, port } = new URL(target);
  const agent = new http.Agent({ keepAlive: true });
  const pass = ({ method, url, headers, body }) =>
    new Promise((resolve, reject) => {
      const onward = http.request({ hostname, port, method, path: url, headers, agent });
      onward.on("error", reject);
      onward.on("response", async (response) => {
        const chunks = [];
        for await (const chunk of response) chunks.push(chunk);
        resolve({
          status: response.statusCode,
          headers: response.headers,
          body: Buffer.concat(chunks),
        });
      });
      onward.end(body);
    });
  const server = http.createServer(async (incoming, outgoing) => {
    const chunks = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const { method, url, headers } = incoming;
    const request = { method, url, headers, body: Buffer.concat(chunks) };
    const fate = treat(request) ?? {};
    if (fate.hangUp) return incoming.socket.destroy();
    if (fate.delay) await new Promise((resolve) => setTimeout(resolve, fate.delay));
    if (fate.status && !fate.after) return outgoing.writeHead(fate.status).end();
    const answer = await pass(request);
    if (fate.status) return outgoing.writeHead(fate.status).end();
    outgoing.writeHead(answer.status, answer.headers).end(answer.body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: () => {
      agent.destroy();
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
