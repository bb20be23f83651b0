import { createServer, type Server, type Socket } from "node:net";
import type { Worker } from "node:worker_threads";
import type { MovableMachine } from "../machine/movable-machine.ts";
import { duplicateFd } from "../sys/fd.ts";
import { listenOptions } from "../sys/listen-address.ts";
import type { ReceivedDisks } from "./received-disks.ts";
import type { MachineTls } from "./tls.ts";
import type { ConnectionMessage, ReceiverMessage } from "./worker/receive-memory.ts";
import { endWorker, type ReadyWorkers } from "./worker/worker-thread.ts";

export interface MemoryReceiverParts {
  readonly workers: ReadyWorkers;
  readonly memory: MovableMachine["memory"];
  /** This object's from now on. */
  readonly disks: ReceivedDisks;
  readonly address: string;
  readonly port: number;
  readonly tls: MachineTls;
  readonly token: Uint8Array;
  readonly connections: number;
  /** All connections have brought all of a pass. */
  readonly onPass: (pass: number) => void;
  readonly onBroken: (error: Error) => void;
}

/** Listens for the connections that bring memory, and gives them in turn to the threads that put it into guest RAM and disks. */
export class MemoryReceiver {
  /** Rejects where the port cannot be had. */
  readonly listening: Promise<void>;
  readonly #parts: MemoryReceiverParts;
  readonly #workers: readonly Worker[];
  readonly #server: Server;
  readonly #ends = new Map<number, number>();
  /** A word of each thread, see ReceiveMemoryTask.turns. */
  readonly #turns: Int32Array;
  #turnsSeen: Int32Array;
  #isClosed = false;

  constructor(parts: MemoryReceiverParts) {
    this.#parts = parts;
    const { workers, memory, disks, connections, address, port, tls, token } = parts;
    this.#turns = new Int32Array(new SharedArrayBuffer(4 * connections));
    this.#turnsSeen = this.#turns.slice();
    this.#workers = Array.from({ length: connections }, (_, index) =>
      workers.start({
        kind: "receive",
        memoryFd: memory.fd,
        sizeBytes: memory.memory.sizeBytes,
        disks: disks.tasks,
        tls,
        token,
        turns: this.#turns.buffer as SharedArrayBuffer,
        index,
      }),
    );
    for (const worker of this.#workers) {
      worker.on("message", (message: ReceiverMessage) => {
        if ("passEnd" in message) this.#onPassEnd(message.passEnd);
        else this.#onBroken(new Error(message.broken));
      });
      worker.on("error", (error: Error) => this.#onBroken(error));
    }
    let came = 0;
    this.#server = createServer({ pauseOnConnect: true }, (socket) => {
      // Two connections on one thread are as slow as one.
      giveTo(this.#workers[came++ % connections], socket);
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.listening = promise;
    this.#server.on("error", reject);
    this.#server.listen(listenOptions({ address, port }), resolve);
  }

  #onPassEnd(pass: number): void {
    const ends = (this.#ends.get(pass) ?? 0) + 1;
    if (ends < this.#parts.connections) {
      this.#ends.set(pass, ends);
      return;
    }
    this.#ends.delete(pass);
    this.#parts.onPass(pass);
  }

  #onBroken(error: Error): void {
    if (!this.#isClosed) this.#parts.onBroken(error);
  }

  /** Whether a thread has taken something since this was asked last, or is writing what it took. */
  hasWorked(): boolean {
    const before = this.#turnsSeen;
    this.#turnsSeen = this.#turns.slice();
    return this.#turnsSeen.some((turns, i) => turns % 2 !== 0 || turns !== before[i]);
  }

  /** Resolves when no thread is left that could write to guest RAM or disks. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#server.close();
    await Promise.all(this.#workers.map((worker) => endWorker(worker)));
    this.#parts.disks[Symbol.dispose]();
  }
}

/** Nothing was read from it. The thread has a descriptor of its own; this one's closing ends nothing. */
function giveTo(worker: Worker | undefined, socket: Socket): void {
  const { fd = -1 } = (socket as Socket & { readonly _handle?: { readonly fd?: number } })._handle ?? {};
  if (fd >= 0) worker?.postMessage({ connection: duplicateFd(fd).take() } satisfies ConnectionMessage);
  socket.destroy();
}
