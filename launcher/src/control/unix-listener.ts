import { chmodSync, renameSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { httpLimits, listen, protect } from "./http-limits.ts";
import type { LauncherApi } from "./launcher-api.ts";

/**
 * The Launcher API on a unix socket that only the launcher's own user may use.
 * The socket appears at `path` ready and with its mode, in place of what a killed predecessor left there.
 */
export async function listenOnUnixSocket(api: LauncherApi, path: string): Promise<Server> {
  const server = createServer(httpLimits);
  protect(server);
  server.on("request", (request, response) => void api.handle(request, response));
  server.on("upgrade", (request, socket, head) => api.upgrade(request, socket, head));
  const unready = `${path}~`;
  rmSync(unready, { force: true });
  await listen(server, { path: unready });
  chmodSync(unready, 0o600);
  renameSync(unready, path);
  return server;
}
