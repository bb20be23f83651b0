import { fstatSync } from "node:fs";
import { PAGE_SIZE } from "../../memory/dirty-bitmap.ts";
import { fdatasync, ftruncate, openFile, pread, pwriteFully, seekData, seekHole } from "../../sys/file-io.ts";
import { GuestPages } from "./guest-pages.ts";

const PIECE_BYTES = 2 ** 20;

export interface MemoryFileTask {
  readonly kind: "save" | "load";
  readonly memoryFd: number;
  readonly sizeBytes: number;
  readonly path: string;
}

/** Copies guest RAM to a file, each page at its offset; pages that are zero are holes. Durable when it returns. */
export function saveMemory({ memoryFd, sizeBytes, path }: MemoryFileTask): void {
  using file = openFile(path, { write: true, create: true, truncate: true, noFollow: true });
  using pages = new GuestPages(memoryFd, sizeBytes);
  ftruncate(file.fd, sizeBytes);
  const write = (from: number, to: number) => {
    for (let at = from; at < to; at += PIECE_BYTES) {
      const end = Math.min(to, at + PIECE_BYTES);
      nonZeroRuns(pages, at, end, (first, last) => pwriteFully(file.fd, pages.bytes.subarray(first, last), first));
    }
  };
  pages.runs(0, sizeBytes, write, () => {});
  fdatasync(file.fd);
}

function nonZeroRuns(pages: GuestPages, from: number, to: number, run: (from: number, to: number) => void): void {
  for (let at = from; at < to; ) {
    if (pages.isZero(at / PAGE_SIZE)) {
      at += PAGE_SIZE;
      continue;
    }
    let end = at + PAGE_SIZE;
    while (end < to && !pages.isZero(end / PAGE_SIZE)) end += PAGE_SIZE;
    run(at, end);
    at = end;
  }
}

/** The other way, into memory that is all zeroes. Throws where the file has another size. */
export function loadMemory({ memoryFd, sizeBytes, path }: MemoryFileTask): void {
  using file = openFile(path, { noFollow: true });
  using pages = new GuestPages(memoryFd, sizeBytes);
  const end = fstatSync(file.fd).size;
  if (end !== sizeBytes) throw new RangeError(`the file has ${end} bytes, and the machine's memory ${sizeBytes}`);
  for (let at = seekData(file.fd, 0); at !== null && at < sizeBytes; at = seekData(file.fd, at)) {
    const hole = Math.min(sizeBytes, seekHole(file.fd, at) ?? sizeBytes);
    while (at < hole) {
      const count = pread(file.fd, pages.bytes.subarray(at, Math.min(hole, at + PIECE_BYTES)), at);
      if (count === 0) throw new RangeError("the file ended while it was read");
      at += count;
    }
  }
}
