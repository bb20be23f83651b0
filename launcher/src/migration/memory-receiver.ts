import type { Worker } from "node:worker_threads";
import type { MovableMachine } from "../machine/movable-machine.ts";
import type { ReceivedDisks } from "./received-disks.ts";
import type { MachineTls } from "./tls.ts";
import type { ReceiverMessage } from "./worker/receive-memory.ts";
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

/** The threads that put what the source sends into guest RAM and disks. */
export class MemoryReceiver {
  readonly listening: Promise<void>;
  readonly #parts: MemoryReceiverParts;
  readonly #workers: readonly Worker[];
  readonly #ends = new Map<number, number>();
  #isClosed = false;

  constructor(parts: MemoryReceiverParts) {
    this.#parts = parts;
    const { workers, memory, disks, connections, address, port, tls, token } = parts;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.listening = promise;
    let silent = connections;
    this.#workers = Array.from({ length: connections }, () =>
      workers.start({
        kind: "receive",
        memoryFd: memory.fd,
        sizeBytes: memory.memory.sizeBytes,
        disks: disks.tasks,
        address,
        port,
        tls,
        token,
      }),
    );
    for (const worker of this.#workers) {
      worker.on("message", (message: ReceiverMessage) => {
        if (message === "listening") {
          if (--silent === 0) resolve();
        } else if ("passEnd" in message) this.#onPassEnd(message.passEnd);
        else this.#onBroken(new Error(message.broken));
      });
      worker.on("error", (error: Error) => this.#onBroken(error));
    }
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

  /** Resolves when no thread is left that could write to guest RAM or disks. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#workers.map((worker) => endWorker(worker)));
    this.#parts.disks[Symbol.dispose]();
  }
}
