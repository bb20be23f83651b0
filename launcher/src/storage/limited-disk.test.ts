import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import type { IoVector } from "./io-vector.ts";
import { LimitedDisk } from "./limited-disk.ts";
import type { IoCompletion, Storage } from "./storage.ts";
import { MemoryBuffer } from "./testing/memory-buffer.ts";

const ECANCELED = 125;

/** Ends everything at once. */
class InstantStorage implements Storage {
  readonly sizeBytes = 1 << 20;
  readonly readOnly = false;
  readonly logicalBlockBytes = 512;
  readonly physicalBlockBytes = 4096;
  readonly log: string[] = [];
  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#end(`read ${offsetBytes}+${vector.lengthBytes}`, completion);
  }
  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#end(`write ${offsetBytes}+${vector.lengthBytes}`, completion);
  }
  flush(completion: IoCompletion): void {
    this.#end("flush", completion);
  }
  discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.#end(`discard ${offsetBytes}+${lengthBytes}`, completion);
  }
  writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void {
    this.#end(`zero ${offsetBytes}+${lengthBytes} ${mayUnmap}`, completion);
  }
  abandon(): void {
    this.log.push("abandon");
  }
  async grow(sizeBytes: number): Promise<void> {
    this.log.push(`grow ${sizeBytes}`);
  }
  async close(): Promise<void> {
    this.log.push("close");
  }
  #end(what: string, completion: IoCompletion): void {
    this.log.push(what);
    completion.completed(0);
  }
}

let memory: MemoryBuffer;
beforeEach(() => {
  memory = new MemoryBuffer(4096);
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
  memory[Symbol.dispose]();
});

function setUp(limits: { requestsPerSecond?: number; bytesPerSecond?: number }) {
  const storage = new InstantStorage();
  const disk = new LimitedDisk(storage, limits, () => Date.now());
  const ended: number[] = [];
  const completion = { completed: (errno: number) => ended.push(errno) };
  const read = (bytes = 512) => disk.read(0, memory.vector(0, bytes), completion);
  const write = (bytes = 512) => disk.write(0, memory.vector(0, bytes), completion);
  return { storage, disk, ended, completion, read, write };
}

describe("a disk with limits", () => {
  it("does so many requests a second, reads and writes together, in the order they come", () => {
    const { storage, ended, read, write, disk, completion } = setUp({ requestsPerSecond: 20 });
    for (const step of [read, write, read, write]) step();
    disk.discard(0, 4096, completion);
    disk.writeZeroes(4096, 512, true, completion);
    expect(ended).toHaveLength(2);
    jest.advanceTimersByTime(99);
    expect(ended).toHaveLength(3);
    jest.advanceTimersByTime(101);
    expect(ended).toHaveLength(6);
    expect(storage.log).toEqual([
      "read 0+512",
      "write 0+512",
      "read 0+512",
      "write 0+512",
      "discard 0+4096",
      "zero 4096+512 true",
    ]);
  });

  it("does so many bytes a second, also in requests that are larger than what it has at once", () => {
    const { ended, read } = setUp({ bytesPerSecond: 10_240 });
    read(4096);
    read(512);
    expect(ended).toHaveLength(1);
    jest.advanceTimersByTime(349);
    expect(ended).toHaveLength(1);
    jest.advanceTimersByTime(1);
    expect(ended).toHaveLength(2);
  });

  it("keeps the stricter of both limits", () => {
    const { ended, read } = setUp({ requestsPerSecond: 1000, bytesPerSecond: 5120 });
    for (let i = 0; i < 3; i++) read(512);
    expect(ended).toHaveLength(1);
    jest.advanceTimersByTime(200);
    expect(ended).toHaveLength(3);
  });

  it("flushes at once, whatever waits", () => {
    const { storage, disk, completion, read } = setUp({ requestsPerSecond: 1 });
    read();
    read();
    disk.flush(completion);
    expect(storage.log).toEqual(["read 0+512", "flush"]);
  });

  it("fails what waits when nobody asks for it any more, and goes on after", () => {
    const { storage, disk, ended, read } = setUp({ requestsPerSecond: 1 });
    for (let i = 0; i < 3; i++) read();
    disk.abandon();
    expect([ended, storage.log]).toEqual([
      [0, ECANCELED, ECANCELED],
      ["read 0+512", "abandon"],
    ]);
    expect(jest.getTimerCount()).toBe(0);
    jest.advanceTimersByTime(1000);
    read();
    expect(ended).toHaveLength(4);
  });

  it("is as large as what it limits, grows and closes with it", async () => {
    const { storage, disk } = setUp({ requestsPerSecond: 1 });
    expect([disk.sizeBytes, disk.readOnly, disk.logicalBlockBytes, disk.physicalBlockBytes]).toEqual([
      1 << 20,
      false,
      512,
      4096,
    ]);
    await disk.grow?.(2 << 20);
    await disk.close();
    expect(storage.log).toEqual(["grow 2097152", "abandon", "close"]);
  });
});
