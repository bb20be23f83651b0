import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";

/** What the health server tells. */
export interface HealthSource {
  readonly registry: Registry;
  /** Why it is not ready, as a clause; undefined when it is. */
  readonly missing: () => string | undefined;
}

/** Serves /healthz, /readyz and /metrics on all addresses; port 0 takes a free one. */
export async function serveHealth(
  port: number,
  source: HealthSource,
): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer((request, response) => {
    const answer = (status: number, body: string, type = "text/plain; charset=utf-8") => {
      response.writeHead(status, { "Content-Type": type }).end(body);
    };
    switch (request.url) {
      case "/healthz":
        return answer(200, "ok\n");
      case "/readyz": {
        const missing = source.missing();
        return missing === undefined ? answer(200, "ok\n") : answer(503, `${missing}\n`);
      }
      case "/metrics":
        source.registry.metrics().then(
          (text) => answer(200, text, source.registry.contentType),
          (error: unknown) => answer(500, `${error}\n`),
        );
        return;
      default:
        return answer(404, "there are /healthz, /readyz and /metrics\n");
    }
  });
  server.listen(port);
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}
