import { readFileSync } from "node:fs";
import {
  connect,
  type DetailedPeerCertificate,
  type PeerCertificate,
  type SecureContextOptions,
  type TLSSocket,
} from "node:tls";

/** A machine's own certificate: both ends of a migration show it, or one of the same common name by the same authority. */
export interface MachineTls {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

export interface TlsPaths {
  readonly certPath: string;
  readonly keyPath: string;
  readonly caPath: string;
}

export function readMachineTls({ certPath, keyPath, caPath }: TlsPaths): MachineTls {
  const read = (path: string) => readFileSync(path, "utf8");
  return { cert: read(certPath), key: read(keyPath), ca: read(caPath) };
}

/** For `tls.createServer` and `tls.connect`. */
export function tlsOptions({ cert, key, ca }: MachineTls): SecureContextOptions {
  return { cert, key, ca, minVersion: "TLSv1.3" };
}

/** Why the peer is not this same machine; undefined when it is. */
export function strangerAt(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return "its certificate is none of this machine's authority";
  const own = commonName(socket.getCertificate() as PeerCertificate | null);
  const peer = commonName(socket.getPeerCertificate());
  if (own !== undefined && own === peer) return undefined;
  return `its certificate is that of ${peer ?? "nobody"}`;
}

/** A certificate with several common names is nobody's. */
function commonName(certificate: PeerCertificate | DetailedPeerCertificate | null): string | undefined {
  const name: unknown = certificate?.subject?.CN;
  return typeof name === "string" && name !== "" ? name : undefined;
}

const CONNECT_LIMIT_MS = 10_000;
/** A peer's host that has gone is noticed within 15 s, also by a side that only waits. */
const KEEP_ALIVE = { enable: true, initialDelay: 5_000, interval: 1_000, count: 10 };

/** Of both ends of each connection of a migration. */
export function noticeLoss(socket: TLSSocket): void {
  socket.setKeepAlive(KEEP_ALIVE);
}

/** Resolves with a connection to this same machine in another launcher; rejects with a sentence. */
export function connectToPeer(host: string, port: number, tls: MachineTls): Promise<TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  // Names are not what counts: `strangerAt` looks at who it is.
  const socket = connect({ host, port, ...tlsOptions(tls), checkServerIdentity: () => undefined });
  const timer = setTimeout(
    () => socket.destroy(new Error(`no answer within ${CONNECT_LIMIT_MS} ms`)),
    CONNECT_LIMIT_MS,
  );
  socket.setNoDelay(true);
  noticeLoss(socket);
  socket.once("error", (error) => {
    clearTimeout(timer);
    reject(new Error(`${host}, port ${port}: ${error.message}`, { cause: error }));
  });
  socket.once("secureConnect", () => {
    clearTimeout(timer);
    const stranger = strangerAt(socket);
    if (stranger === undefined) resolve(socket);
    else socket.destroy(new Error(stranger));
  });
  return promise;
}
