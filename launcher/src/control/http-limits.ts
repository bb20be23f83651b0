import type { Server as HttpServer, ServerOptions } from "node:http";
import type { Server as HttpsServer } from "node:https";
import type { ListenOptions } from "node:net";
import { RequestRefused } from "./api-error.ts";

/** What one client may cost: every listener has these. */
export const httpLimits: ServerOptions = {
  maxHeaderSize: 8 * 1024,
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 30_000,
  connectionsCheckingInterval: 5_000,
};

const MAX_CONNECTIONS = 64;

/** Sets the limits that are not options, and answers bytes that are not HTTP. */
export function protect(server: HttpServer | HttpsServer): void {
  server.maxConnections = MAX_CONNECTIONS;
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy();
      return;
    }
    const late = error.code === "ERR_HTTP_REQUEST_TIMEOUT";
    const refusal = late
      ? new RequestRefused("Timeout", "the request did not arrive in time")
      : new RequestRefused("BadRequest", "this is not an HTTP request that the launcher takes");
    socket.end(refusal.rawResponse, () => socket.destroy());
  });
}

/** Listens; rejects where that fails. Later errors (no descriptor left for a connection) cost that connection only. */
export async function listen(server: HttpServer | HttpsServer, where: ListenOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.on("error", reject);
    server.listen(where, resolve);
  });
}

/** Stops listening, gives answers under way up to `graceMs`, then leaves what is left to its fate. */
export async function closeServer(server: HttpServer | HttpsServer, graceMs: number): Promise<void> {
  if (!server.listening) return;
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeIdleConnections();
  // Upgraded sockets are not the server's any more, and keep it from closing: hence the second resolve.
  const timer = setTimeout(() => {
    server.closeAllConnections();
    resolve();
  }, graceMs);
  await closed;
  clearTimeout(timer);
}
