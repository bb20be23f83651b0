import type { IncomingMessage } from "node:http";
import { createServer, type Server } from "node:https";
import type { TLSSocket } from "node:tls";
import type { ControlConfig } from "../../api/machine-config.ts";
import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import { listenOptions } from "../sys/listen-address.ts";
import { RequestRefused, sendRefusal } from "./api-error.ts";
import { httpLimits, listen, protect } from "./http-limits.ts";
import type { LauncherApi } from "./launcher-api.ts";
import { readTlsMaterial, watchTlsFiles } from "./tls-files.ts";

const HANDSHAKE_TIMEOUT_MS = 5_000;
/** How soon a console finds out that its client's host has gone. */
const KEEP_ALIVE_MS = 30_000;

export interface HttpsListener extends Disposable {
  readonly server: Server;
}

/** The Launcher API over TLS 1.3 for clients whose certificate the CA signed and whose common name is let in. */
export async function listenOnHttps(
  api: LauncherApi,
  config: NonNullable<ControlConfig["https"]>,
  log: Logger,
): Promise<HttpsListener> {
  const material = readTlsMaterial(config);
  const server = createServer({
    ...httpLimits,
    ...material,
    minVersion: "TLSv1.3",
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
  });
  protect(server);
  const stranger = (request: IncomingMessage) => strangerAt(request.socket as TLSSocket, config.allowedClients);
  server.on("request", (request, response) => {
    const refusal = stranger(request);
    if (refusal === undefined) void api.handle(request, response);
    else sendRefusal(response, refusal);
  });
  server.on("upgrade", (request, socket, head) => {
    const refusal = stranger(request);
    request.socket.setKeepAlive(true, KEEP_ALIVE_MS);
    if (refusal === undefined) api.upgrade(request, socket, head);
    else socket.end(refusal.rawResponse, () => socket.destroy());
  });
  await listen(server, listenOptions(config));
  const watcher = watchTlsFiles(config, material, {
    onChange: (next) => {
      server.setSecureContext({ ...next, minVersion: "TLSv1.3" });
      // Connections made under the old CA end at their next pause.
      server.closeIdleConnections();
      log.info("TLS certificates were read again", { reason: "CertificatesChanged" });
    },
    onError: (error) =>
      log.warn("TLS certificates are unusable, the former stay in use", {
        reason: "CertificatesUnusable",
        error: errorText(error),
      }),
  });
  return { server, [Symbol.dispose]: () => watcher[Symbol.dispose]() };
}

function strangerAt(socket: TLSSocket, allowedClients: readonly string[]): RequestRefused | undefined {
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  // A certificate with several common names shows as a list, which is nobody.
  if (socket.authorized && typeof name === "string" && allowedClients.includes(name)) return undefined;
  return new RequestRefused("Forbidden", "this client certificate's common name is not let in", {
    headers: { Connection: "close" },
  });
}
