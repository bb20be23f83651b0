import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { IoVector } from "./io-vector.ts";
import { PatientDisk } from "./patient-disk.ts";
import type { IoCompletion, Storage } from "./storage.ts";

const EIO = 5;
const ENOSPC = 28;
const EDQUOT = 122;
const ECANCELED = 125;
const ADDRESS = 0x10000;

/** Ends each operation as told: with the errno that is next, after it took `takes` bytes of a write. */
class ScriptedStorage implements Storage {
  readonly sizeBytes = 1 << 20;
  readonly readOnly = false;
  readonly logicalBlockBytes = 512;
  readonly physicalBlockBytes = 4096;
  readonly log: string[] = [];
  errnos: number[] = [];
  takes = 0;
  /** While true, operations wait in `pending`. */
  holds = false;
  readonly pending: (() => void)[] = [];

  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#end(`read ${offsetBytes}+${vector.lengthBytes}`, completion);
  }
  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#end(`write ${offsetBytes}+${vector.lengthBytes}`, completion, vector);
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
  async close(): Promise<void> {
    this.log.push("close");
  }

  release(): void {
    for (const end of this.pending.splice(0)) end();
  }

  #end(what: string, completion: IoCompletion, vector?: IoVector): void {
    this.log.push(what);
    const end = () => {
      vector?.dropFront(this.takes);
      completion.completed(this.errnos.shift() ?? 0);
    };
    if (this.holds) this.pending.push(end);
    else end();
  }
}

function setUp() {
  const storage = new ScriptedStorage();
  const disk = new PatientDisk(storage);
  const events: string[] = [];
  disk.listener = { full: () => void events.push("full"), room: () => void events.push("room") };
  const ended: number[] = [];
  const completion = { completed: (errno: number) => void ended.push(errno) };
  const write = (offsetBytes: number, lengthBytes = 4096) => {
    const vector = new IoVector(4);
    vector.append(ADDRESS, lengthBytes);
    disk.write(offsetBytes, vector, completion);
  };
  return { storage, disk, events, ended, completion, write };
}

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

describe("a disk whose storage is full", () => {
  it.each([ENOSPC, EDQUOT])("keeps a write that ends with %d, and tries it again until it is done", (errno) => {
    const { storage, disk, events, ended, write } = setUp();
    storage.errnos = [errno, errno, errno];
    write(8192);
    expect([events, ended, disk.isFull]).toEqual([["full"], [], true]);
    jest.advanceTimersByTime(500);
    expect([storage.log.length, ended]).toEqual([2, []]);
    jest.advanceTimersByTime(999);
    expect(storage.log.length).toBe(2);
    jest.advanceTimersByTime(1);
    expect([storage.log.length, ended]).toEqual([3, []]);
    jest.advanceTimersByTime(2000);
    expect(storage.log).toEqual(new Array(4).fill("write 8192+4096"));
    expect([events, ended, disk.isFull]).toEqual([["full", "room"], [0], false]);
    expect(jest.getTimerCount()).toBe(0);
  });

  it("asks every ten seconds in the end, and soon again when it was full the next time", () => {
    const { storage, ended, write } = setUp();
    storage.errnos = new Array<number>(20).fill(ENOSPC);
    write(0);
    jest.advanceTimersByTime(60_000);
    const before = storage.log.length;
    jest.advanceTimersByTime(20_000);
    expect(storage.log.length).toBe(before + 2);
    storage.errnos = [];
    jest.advanceTimersByTime(10_000);
    storage.errnos = [ENOSPC];
    write(0);
    jest.advanceTimersByTime(500);
    expect(ended).toEqual([0, 0]);
  });

  it("goes on where the write had stopped", () => {
    const { storage, ended, write } = setUp();
    storage.errnos = [ENOSPC, ENOSPC];
    storage.takes = 1024;
    write(512, 4096);
    jest.advanceTimersByTime(1500);
    expect([storage.log, ended]).toEqual([["write 512+4096", "write 1536+3072", "write 2560+2048"], [0]]);
  });

  it("keeps zeroes too", () => {
    const { storage, disk, ended, completion } = setUp();
    storage.errnos = [ENOSPC];
    disk.writeZeroes(512, 1024, true, completion);
    jest.advanceTimersByTime(500);
    expect([storage.log, ended]).toEqual([["zero 512+1024 true", "zero 512+1024 true"], [0]]);
  });

  it("is so until the last of its operations has ended, of which none has to wait for others", () => {
    const { storage, disk, events, ended, write } = setUp();
    storage.errnos = [ENOSPC, 0, ENOSPC];
    write(0);
    write(4096);
    write(8192);
    expect([events, ended]).toEqual([["full"], [0]]);
    storage.errnos = [0, ENOSPC];
    disk.retry();
    expect([events, ended, disk.isFull]).toEqual([["full"], [0, 0], true]);
    jest.advanceTimersByTime(500);
    expect([events, ended, disk.isFull]).toEqual([["full", "room"], [0, 0, 0], false]);
  });

  it("tries at once when it is told to", () => {
    const { disk, storage, events, ended, write } = setUp();
    storage.errnos = [ENOSPC];
    write(0);
    disk.retry();
    expect([events, ended, jest.getTimerCount()]).toEqual([["full", "room"], [0], 0]);
  });

  it("reads, flushes and drops what cannot be discarded meanwhile", () => {
    const { storage, disk, ended, completion, write } = setUp();
    storage.errnos = [ENOSPC];
    write(0);
    using vector = new IoVector(1);
    vector.append(ADDRESS, 512);
    disk.read(0, vector, completion);
    disk.flush(completion);
    storage.errnos = [ENOSPC];
    disk.discard(0, 512, completion);
    expect(ended).toEqual([0, 0, 0]);
  });
});

describe("what does not wait", () => {
  it("is a write with another error, at first or when it is tried again", () => {
    const { storage, events, ended, write } = setUp();
    storage.errnos = [EIO];
    write(0);
    expect([events, ended]).toEqual([[], [EIO]]);
    storage.errnos = [ENOSPC, EIO];
    write(0);
    jest.advanceTimersByTime(500);
    expect([events, ended]).toEqual([
      ["full", "room"],
      [EIO, EIO],
    ]);
  });

  it("is a flush: its error is told once, of data that may be lost", () => {
    const { storage, disk, events, ended, completion } = setUp();
    storage.errnos = [ENOSPC];
    disk.flush(completion);
    expect([events, ended]).toEqual([[], [ENOSPC]]);
  });

  it("is a write whose driver has gone, whether it waited or was under way", () => {
    const { storage, disk, events, ended, write } = setUp();
    storage.errnos = [ENOSPC];
    write(0);
    storage.holds = true;
    write(4096);
    disk.abandon();
    expect([events, ended]).toEqual([["full", "room"], [ECANCELED]]);
    storage.errnos = [ENOSPC];
    storage.release();
    expect([events, ended, jest.getTimerCount()]).toEqual([["full", "room"], [ECANCELED, ECANCELED], 0]);
    storage.holds = false;
    storage.errnos = [ENOSPC];
    write(8192);
    expect(disk.isFull).toBe(true);
    disk.abandon();
  });

  it("is anything when the disk is closed", async () => {
    const { storage, disk, ended, write } = setUp();
    storage.errnos = [ENOSPC];
    write(0);
    await disk.close();
    expect([ended, storage.log.at(-1), jest.getTimerCount()]).toEqual([[ECANCELED], "close", 0]);
  });
});
