import { createServer, type TLSSocket } from "node:tls";
import { parentPort } from "node:worker_threads";
import { punchHole } from "../../sys/file-io.ts";
import { listenOptions } from "../../sys/listen-address.ts";
import { type MachineTls, strangerAt, tlsOptions } from "../tls.ts";
import { DiskFile, type ReceivedDisk } from "./disk-files.ts";
import { GuestPages } from "./guest-pages.ts";
import { MemoryStream, type MemoryTarget } from "./memory-stream.ts";

export interface ReceiveMemoryTask {
  readonly kind: "receive";
  readonly memoryFd: number;
  readonly sizeBytes: number;
  readonly disks: readonly ReceivedDisk[];
  readonly address: string;
  readonly port: number;
  readonly tls: MachineTls;
  readonly token: Uint8Array;
}

/** What a receiving thread says: that it listens, that a connection has all of a pass, or why one that was let in broke. */
export type ReceiverMessage = "listening" | { readonly passEnd: number } | { readonly broken: string };

const HANDSHAKE_LIMIT_MS = 5_000;
const CONNECTION_LIMIT = 16;

/** Listens beside other threads on one port, and puts what connections bring into guest RAM and disks; ends with the thread. */
export function receiveMemory(task: ReceiveMemoryTask): void {
  const pages = new GuestPages(task.memoryFd, task.sizeBytes);
  const say = (message: ReceiverMessage) => parentPort?.postMessage(message);
  const disks = task.disks.map((disk) => new DiskFile(disk));
  const target: MemoryTarget = {
    sizeBytes: task.sizeBytes,
    disks,
    write: (offsetBytes, bytes) => pages.bytes.set(bytes, offsetBytes),
    zero: (offsetBytes, lengthBytes) => punchHole(task.memoryFd, offsetBytes, lengthBytes),
    passEnded: (passEnd) => {
      // In each pass, so that little is left for the last one.
      for (const disk of disks) disk.flush();
      say({ passEnd });
    },
  };
  const server = createServer({
    ...tlsOptions(task.tls),
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: HANDSHAKE_LIMIT_MS,
  });
  server.maxConnections = CONNECTION_LIMIT;
  server.on("secureConnection", (socket) => {
    if (strangerAt(socket) === undefined) follow(socket, new MemoryStream(target, task.token), say);
    else socket.destroy();
  });
  // Strangers and their broken handshakes are nobody's business.
  server.on("tlsClientError", () => {});
  server.listen({ ...listenOptions(task), reusePort: true }, () => say("listening"));
}

function follow(socket: TLSSocket, stream: MemoryStream, say: (message: ReceiverMessage) => void): void {
  let whyBroken = "the source closed a memory connection";
  socket.on("data", (chunk: Buffer) => {
    try {
      stream.push(chunk);
    } catch (error) {
      whyBroken = error instanceof Error ? error.message : String(error);
      socket.destroy();
    }
  });
  socket.on("error", (error) => {
    whyBroken = error.message;
  });
  socket.on("close", () => {
    if (stream.isLetIn) say({ broken: whyBroken });
  });
}
