import { createServer, type Server } from "node:http";
import { listenOptions } from "../sys/listen-address.ts";
import type { ProgressMeter } from "./progress.ts";

const MAX_CONNECTIONS = 8;

/** Plain HTTP: how far the import is. Reads only, and nothing secret. */
export async function listenForProgress(
  progress: ProgressMeter,
  endpoint: { readonly address: string; readonly port: number },
): Promise<Server> {
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 10_000 }, (request, response) => {
    const path = request.url?.split("?", 1)[0];
    const isKnown = request.method === "GET" && (path === "/progress" || path === "/healthz");
    response.writeHead(isKnown ? 200 : 404, { "Content-Type": "application/json" });
    response.end(path === "/progress" ? JSON.stringify(progress.snapshot()) : "{}");
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject);
    server.listen(listenOptions(endpoint), resolve);
  });
  // The import's end is the process's.
  server.unref();
  return server;
}
