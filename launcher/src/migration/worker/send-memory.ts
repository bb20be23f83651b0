import { once } from "node:events";
import type { TLSSocket } from "node:tls";
import { parentPort } from "node:worker_threads";
import { clearTracked, type TrackedSlot } from "../../machine/dirty-tracking.ts";
import { PAGE_SIZE } from "../../memory/dirty-bitmap.ts";
import { MEMORY_FRAME, memoryHeader, PAGES_LIMIT_BYTES } from "../protocol.ts";
import { connectToPeer, type MachineTls } from "../tls.ts";
import { GuestPages } from "./guest-pages.ts";
import { DISK_CHUNK_BYTES, DiskReader, type SentDisk } from "./send-disk.ts";

/** What one thread takes of a pass at a time: 4 MiB. */
const CHUNK_PAGES = 1024;

export interface SendMemoryTask {
  readonly kind: "send";
  readonly memoryFd: number;
  readonly sizeBytes: number;
  readonly vmFd: number;
  readonly slots: readonly TrackedSlot[];
  readonly isManual: boolean;
  readonly disks: readonly SentDisk[];
  readonly address: string;
  readonly port: number;
  readonly tls: MachineTls;
  readonly token: Uint8Array;
  /** Shared by all threads of a migration, see SHARED. */
  readonly shared: SharedArrayBuffer;
  /** Of this thread; 0: no limit. */
  readonly bytesPerSecond: number;
}

/** Words of `shared`. Of disks they count in units of SHARED_DISK_BYTES; `pacing` is how many threads wait for their bandwidth. */
export const SHARED = {
  nextChunk: 0,
  sentPages: 1,
  donePages: 2,
  sentOfDisks: 3,
  doneOfDisks: 4,
  pacing: 5,
  words: 6,
} as const;
export const SHARED_DISK_BYTES = 4096;

/** Asks a thread to take part in a pass: the pages of `bitmap`, and the blocks of each disk's, which are all threads'. */
export interface PassRequest {
  readonly pass: number;
  readonly bitmap: SharedArrayBuffer;
  readonly disks: readonly SharedArrayBuffer[];
}

/** What a sending thread says: that it is connected, and that it has no more of a pass. */
export type SenderMessage = "connected" | { readonly sent: number };

interface MemoryChunk {
  readonly slot: TrackedSlot;
  readonly firstPage: number;
  readonly pages: number;
}

interface DiskChunk {
  readonly disk: number;
  readonly start: number;
  readonly end: number;
}

/** Connects, and sends its part of each pass that it is asked for; ends with the thread. */
export async function sendMemory(task: SendMemoryTask): Promise<void> {
  const socket = await connectToPeer(task.address, task.port, task.tls);
  socket.on("error", (error) => {
    throw new Error(`a memory connection broke: ${error.message}`);
  });
  socket.on("close", () => {
    throw new Error("the target closed a memory connection");
  });
  // It only sends; reading finds out when the other end closes.
  socket.resume();
  socket.write(memoryHeader(MEMORY_FRAME.hello, task.token.length, 0));
  socket.write(task.token);
  const sender = new Sender(task, socket);
  parentPort?.on("message", (request: PassRequest) => {
    sender.send(request).then(
      () => parentPort?.postMessage({ sent: request.pass } satisfies SenderMessage),
      (error: unknown) => {
        throw error;
      },
    );
  });
  parentPort?.postMessage("connected" satisfies SenderMessage);
}

class Sender {
  readonly #task: SendMemoryTask;
  readonly #socket: TLSSocket;
  readonly #pages: GuestPages;
  readonly #shared: Int32Array;
  readonly #chunks: readonly (MemoryChunk | DiskChunk)[];
  readonly #disks: readonly DiskReader[];
  #paidUntilMs = 0;

  constructor(task: SendMemoryTask, socket: TLSSocket) {
    this.#task = task;
    this.#socket = socket;
    this.#pages = new GuestPages(task.memoryFd, task.sizeBytes);
    this.#shared = new Int32Array(task.shared);
    this.#disks = task.disks.map((disk, index) => new DiskReader(disk, index, socket));
    // Disks first: a guest changes its memory the sooner.
    this.#chunks = [...task.disks.flatMap(diskChunksOf), ...task.slots.flatMap(chunksOf)];
  }

  async send({ pass, bitmap, disks }: PassRequest): Promise<void> {
    const words = new Uint32Array(bitmap);
    for (;;) {
      const chunk = this.#chunks[Atomics.add(this.#shared, SHARED.nextChunk, 1)];
      if (!chunk) break;
      if ("disk" in chunk) {
        await this.#sendOfDisk(chunk, disks[chunk.disk], pass === 0);
        continue;
      }
      const part = words.slice(chunk.firstPage / 32, (chunk.firstPage + chunk.pages) / 32);
      if (part.some((word) => word !== 0)) await this.#sendChunk(chunk, part, pass === 0);
      Atomics.add(this.#shared, SHARED.donePages, chunk.pages);
    }
    this.#socket.write(memoryHeader(MEMORY_FRAME.passEnd, 0, pass));
  }

  async #sendOfDisk(
    { disk, start, end }: DiskChunk,
    bitmap: SharedArrayBuffer | undefined,
    isFirst: boolean,
  ): Promise<void> {
    const reader = this.#disks[disk];
    if (!reader || !bitmap) throw new RangeError(`there is no disk ${disk} in this pass`);
    for await (const { sentBytes, doneBytes } of reader.send(new Uint32Array(bitmap), { start, end, isFirst })) {
      Atomics.add(this.#shared, SHARED.sentOfDisks, Math.ceil(sentBytes / SHARED_DISK_BYTES));
      Atomics.add(this.#shared, SHARED.doneOfDisks, Math.ceil(doneBytes / SHARED_DISK_BYTES));
      await this.#pace(sentBytes);
    }
  }

  /** Cleared before it is copied: what is written meanwhile is noted again. */
  async #sendChunk({ slot, firstPage, pages }: MemoryChunk, dirty: Uint32Array, isFirst: boolean): Promise<void> {
    if (this.#task.isManual) clearTracked(this.#task.vmFd, slot, firstPage, pages, dirty);
    const isDirty = (page: number) => (((dirty[(page - firstPage) >>> 5] ?? 0) >>> (page & 31)) & 1) === 1;
    const zeroes = (from: number, to: number) => {
      // Memory of the target is zeroes at first.
      if (isFirst) return;
      for (let at = from; at < to; ) {
        let end = at;
        while (end < to && isDirty(end / PAGE_SIZE)) end += PAGE_SIZE;
        if (end > at) this.#socket.write(memoryHeader(MEMORY_FRAME.zeroes, end - at, at));
        at = end + PAGE_SIZE;
      }
    };
    let sentBytes = 0;
    const data = (from: number, to: number) => {
      for (let at = from; at < to; ) {
        const page = at / PAGE_SIZE;
        if (!isDirty(page)) at += PAGE_SIZE;
        else if (this.#pages.isZero(page)) {
          zeroes(at, at + PAGE_SIZE);
          at += PAGE_SIZE;
        } else {
          let end = at + PAGE_SIZE;
          const limit = Math.min(to, at + PAGES_LIMIT_BYTES);
          while (end < limit && isDirty(end / PAGE_SIZE) && !this.#pages.isZero(end / PAGE_SIZE)) end += PAGE_SIZE;
          this.#socket.cork();
          this.#socket.write(memoryHeader(MEMORY_FRAME.pages, end - at, at));
          this.#socket.write(this.#pages.bytes.subarray(at, end));
          this.#socket.uncork();
          sentBytes += end - at;
          at = end;
        }
      }
    };
    this.#pages.runs(firstPage * PAGE_SIZE, (firstPage + pages) * PAGE_SIZE, data, zeroes);
    Atomics.add(this.#shared, SHARED.sentPages, sentBytes / PAGE_SIZE);
    await this.#pace(sentBytes);
  }

  async #pace(sentBytes: number): Promise<void> {
    if (this.#socket.writableNeedDrain) await once(this.#socket, "drain");
    const { bytesPerSecond } = this.#task;
    if (bytesPerSecond === 0) return;
    const nowMs = performance.now();
    this.#paidUntilMs = Math.max(this.#paidUntilMs, nowMs) + (sentBytes / bytesPerSecond) * 1000;
    if (this.#paidUntilMs <= nowMs) return;
    Atomics.add(this.#shared, SHARED.pacing, 1);
    await new Promise((resolve) => setTimeout(resolve, this.#paidUntilMs - nowMs));
    Atomics.sub(this.#shared, SHARED.pacing, 1);
  }
}

function diskChunksOf({ sizeBytes }: SentDisk, disk: number): DiskChunk[] {
  return Array.from({ length: Math.ceil(sizeBytes / DISK_CHUNK_BYTES) }, (_, i) => {
    const start = i * DISK_CHUNK_BYTES;
    return { disk, start, end: Math.min(sizeBytes, start + DISK_CHUNK_BYTES) };
  });
}

function chunksOf(slot: TrackedSlot): MemoryChunk[] {
  return Array.from({ length: Math.ceil(slot.pages / CHUNK_PAGES) }, (_, i) => {
    const firstPage = slot.firstPage + i * CHUNK_PAGES;
    return { slot, firstPage, pages: Math.min(CHUNK_PAGES, slot.firstPage + slot.pages - firstPage) };
  });
}
