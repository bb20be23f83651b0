import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { nativeFile } from "../../sys/native-files.ts";
import type { DigestImageTask } from "./digest-image.ts";
import type { MemoryFileTask } from "./memory-file.ts";
import type { ReceiveMemoryTask } from "./receive-memory.ts";
import type { SendMemoryTask } from "./send-memory.ts";

/** What the launcher is built into, beside its own file. */
const BUNDLE = "migration-worker.js";
/** A thread that copies needs no more; what it copies is not in its heap. */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4 };

export type WorkerTask = MemoryFileTask | SendMemoryTask | ReceiveMemoryTask | DigestImageTask;

/** A thread that does `task`, and lives no longer than that. Who makes it listens to its messages, errors and end. */
export function startWorker(task: WorkerTask): Worker {
  return newWorker(task);
}

/** Null: it waits for its task. */
function newWorker(task: WorkerTask | null): Worker {
  const path = nativeFile(BUNDLE, () => join(import.meta.dirname, "main.ts"));
  return new Worker(path, { workerData: task, resourceLimits: LIMITS, stdin: false });
}

/** Threads that load their program while nobody waits for them yet, which takes longer than a small machine's first pass. */
export class ReadyWorkers implements Disposable {
  readonly #waiting = new Set<Worker>();

  constructor(count: number) {
    for (let i = 0; i < count; i++) {
      const worker = newWorker(null);
      this.#waiting.add(worker);
      // Of no use then; who takes one hears of errors after that.
      worker.on("error", () => this.#waiting.delete(worker));
    }
  }

  get waiting(): Iterable<Worker> {
    return this.#waiting;
  }

  /** As `startWorker`, by one of them while there are some. */
  start(task: WorkerTask): Worker {
    for (const worker of this.#waiting) {
      this.#waiting.delete(worker);
      worker.postMessage(task);
      return worker;
    }
    return newWorker(task);
  }

  /** Ends those that have no task. */
  [Symbol.dispose](): void {
    for (const worker of this.#waiting) void endWorker(worker);
    this.#waiting.clear();
  }
}

/** Tells a thread to end. */
export type EndRequest = "end";

/**
 * Ends a thread between two of its steps. `terminate()` would end the whole process where it comes in the middle of a call into
 * the C library: koffi can then neither return nor throw, and gives up.
 */
export async function endWorker(worker: Worker): Promise<void> {
  // It has ended by itself.
  if (worker.threadId === -1) return;
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  worker.postMessage("end" satisfies EndRequest);
  await ended;
}

/** Runs a task that says nothing on its way; rejects with what it threw. */
export function runWorker(task: MemoryFileTask): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const worker = startWorker(task);
  worker.once("error", reject);
  worker.once("exit", (code) => (code === 0 ? resolve() : reject(new Error(`a copying thread ended with ${code}`))));
  return promise;
}
