import type { Worker } from "node:worker_threads";
import type { DirtyTracking } from "../machine/dirty-tracking.ts";
import type { MovableMachine } from "../machine/movable-machine.ts";
import { PAGE_SIZE } from "../memory/dirty-bitmap.ts";
import type { MachineTls } from "./tls.ts";
import type { SentDisk } from "./worker/send-disk.ts";
import { type PassRequest, type SenderMessage, SHARED, SHARED_DISK_BYTES } from "./worker/send-memory.ts";
import { endWorker, type ReadyWorkers } from "./worker/worker-thread.ts";

export interface MemorySenderParts {
  readonly workers: ReadyWorkers;
  readonly memory: MovableMachine["memory"];
  readonly tracking: DirtyTracking;
  readonly disks: readonly SentDisk[];
  readonly address: string;
  readonly port: number;
  readonly tls: MachineTls;
  readonly token: Uint8Array;
  readonly connections: number;
  /** Of all connections; 0: no limit. */
  readonly bytesPerSecond: number;
  readonly onBroken: (error: Error) => void;
}

/** What is sent in a pass: pages of `bitmap`, and of each disk the blocks of its own, `diskBytes` in all. */
export interface PassContents extends Omit<PassRequest, "pass"> {
  readonly diskBytes: number;
}

/** The threads that send guest RAM and disks, each by a connection of its own. */
export class MemorySender implements Disposable {
  readonly connected: Promise<void>;
  readonly #workers: readonly Worker[];
  readonly #shared = new SharedArrayBuffer(4 * SHARED.words);
  readonly #words = new Int32Array(this.#shared);
  readonly #memoryBytes: number;
  readonly #onMessage = new Set<(message: SenderMessage) => void>();
  /** What of all passes before the one under way was sent; the shared counters are too small for all. */
  #sentBytes = 0;
  #diskSentBytes = 0;
  /** Of the pass under way. */
  #diskBytes = 0;
  #isDisposed = false;

  constructor(parts: MemorySenderParts) {
    const { workers, memory, tracking, disks, connections, bytesPerSecond, address, port, tls, token } = parts;
    this.#memoryBytes = memory.memory.sizeBytes;
    this.#workers = Array.from({ length: connections }, () =>
      workers.start({
        kind: "send",
        memoryFd: memory.fd,
        sizeBytes: memory.memory.sizeBytes,
        vmFd: memory.vmFd,
        slots: tracking.slots,
        isManual: tracking.isManual,
        disks,
        shared: this.#shared,
        bytesPerSecond: bytesPerSecond / connections,
        address,
        port,
        tls,
        token,
      }),
    );
    for (const worker of this.#workers) {
      worker.on("message", (message: SenderMessage) => {
        for (const listener of [...this.#onMessage]) listener(message);
      });
      worker.on("error", (error: Error) => {
        if (!this.#isDisposed) parts.onBroken(error);
      });
    }
    this.connected = this.#all((message) => message === "connected");
  }

  /** Bytes of pages. */
  get sentBytes(): number {
    return this.#sentBytes + Atomics.load(this.#words, SHARED.sentPages) * PAGE_SIZE;
  }

  get diskSentBytes(): number {
    return this.#diskSentBytes + Atomics.load(this.#words, SHARED.sentOfDisks) * SHARED_DISK_BYTES;
  }

  /** What the pass that is under way has not looked at yet. */
  get remainingBytes(): number {
    return Math.max(0, this.#memoryBytes - Atomics.load(this.#words, SHARED.donePages) * PAGE_SIZE);
  }

  get diskRemainingBytes(): number {
    return Math.max(0, this.#diskBytes - Atomics.load(this.#words, SHARED.doneOfDisks) * SHARED_DISK_BYTES);
  }

  /** Some thread sends nothing just now, so as not to exceed its bandwidth. */
  get isPacing(): boolean {
    return Atomics.load(this.#words, SHARED.pacing) > 0;
  }

  /** Resolves when all of `contents` is with the connections. One pass at a time. */
  async send(pass: number, { bitmap, disks, diskBytes }: PassContents): Promise<void> {
    this.#sentBytes = this.sentBytes;
    this.#diskSentBytes = this.diskSentBytes;
    this.#diskBytes = diskBytes;
    this.#words.fill(0);
    const sent = this.#all((message) => message !== "connected" && message.sent === pass);
    for (const worker of this.#workers) worker.postMessage({ pass, bitmap, disks } satisfies PassRequest);
    await sent;
  }

  /** Resolves when each thread has said so. */
  #all(isIt: (message: SenderMessage) => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    let left = this.#workers.length;
    const listener = (message: SenderMessage) => {
      if (!isIt(message) || --left > 0) return;
      this.#onMessage.delete(listener);
      resolve();
    };
    this.#onMessage.add(listener);
    return promise;
  }

  /** Resolves when no thread reads memory or disks any more. */
  async close(): Promise<void> {
    this.#isDisposed = true;
    await Promise.all(this.#workers.map((worker) => endWorker(worker)));
  }

  [Symbol.dispose](): void {
    void this.close();
  }
}
