import { Socket } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import { parentPort } from "node:worker_threads";
import { punchHole, pwriteFully } from "../../sys/file-io.ts";
import { type MachineTls, noticeLoss, strangerAt, tlsOptions } from "../tls.ts";
import { DiskFile, type ReceivedDisk } from "./disk-files.ts";
import { MemoryStream, type MemoryTarget } from "./memory-stream.ts";

export interface ReceiveMemoryTask {
  readonly kind: "receive";
  readonly memoryFd: number;
  readonly sizeBytes: number;
  readonly disks: readonly ReceivedDisk[];
  readonly tls: MachineTls;
  readonly token: Uint8Array;
  /** Word `index` is this thread's: one more when it takes what came, and one more when that is where it belongs. */
  readonly turns: SharedArrayBuffer;
  readonly index: number;
}

/** Gives a thread the descriptor of a connection that came in, of whomever it is. */
export interface ConnectionMessage {
  readonly connection: number;
}

/** What a receiving thread says: that a connection has all of a pass, or why one that was let in broke. */
export type ReceiverMessage = { readonly passEnd: number } | { readonly broken: string };

const HANDSHAKE_LIMIT_MS = 5_000;
const CONNECTION_LIMIT = 16;

/** Puts what the connections that it is given bring into guest RAM and disks; ends with the thread. */
export function receiveMemory(task: ReceiveMemoryTask): void {
  const say = (message: ReceiverMessage) => parentPort?.postMessage(message);
  const disks = task.disks.map((disk) => new DiskFile(disk));
  const turns = new Int32Array(task.turns);
  const turn = () => void Atomics.add(turns, task.index, 1);
  const target: MemoryTarget = {
    sizeBytes: task.sizeBytes,
    disks,
    // The first time it takes half as long as a copy into a mapping, whose pages would fault one by one.
    write: (offsetBytes, bytes) => pwriteFully(task.memoryFd, bytes, offsetBytes),
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
  server.on("secureConnection", (socket) => {
    if (strangerAt(socket) !== undefined) {
      socket.destroy();
      return;
    }
    noticeLoss(socket);
    follow(socket, new MemoryStream(target, task.token), { say, turn });
  });
  // Strangers and their broken handshakes are nobody's business.
  server.on("tlsClientError", () => {});
  let open = 0;
  parentPort?.on("message", (message: ConnectionMessage | object) => {
    if (!("connection" in message)) return;
    const socket = new Socket({ fd: message.connection });
    socket.on("close", () => open--);
    if (++open > CONNECTION_LIMIT) socket.destroy();
    else server.emit("connection", socket);
  });
  // It waits for connections, as others wait for what they have open.
  parentPort?.ref();
}

interface Following {
  readonly say: (message: ReceiverMessage) => void;
  readonly turn: () => void;
}

function follow(socket: TLSSocket, stream: MemoryStream, { say, turn }: Following): void {
  let whyBroken = "the source closed a memory connection";
  socket.on("data", (chunk: Buffer) => {
    turn();
    try {
      stream.push(chunk);
    } catch (error) {
      whyBroken = error instanceof Error ? error.message : String(error);
      socket.destroy();
    } finally {
      turn();
    }
  });
  socket.on("error", (error) => {
    whyBroken = error.message;
  });
  socket.on("close", () => {
    if (stream.isLetIn) say({ broken: whyBroken });
  });
}
