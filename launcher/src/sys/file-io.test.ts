import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { OwnedFd } from "./fd.ts";
import * as io from "./file-io.ts";
import { IovecBlock } from "./iovec.ts";
import { Mapping } from "./mapping.ts";

let directory: string;
let file: OwnedFd;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "sys-"));
  file = io.openFile(join(directory, "disk"), { write: true, create: true });
});

afterEach(() => {
  file[Symbol.dispose]();
  rmSync(directory, { recursive: true });
});

function fill(text: string, offsetBytes = 0): void {
  io.pwriteFully(file.fd, Buffer.from(text), offsetBytes);
}

function content(offsetBytes: number, lengthBytes: number): string {
  const buffer = Buffer.alloc(lengthBytes);
  return buffer.subarray(0, io.preadFully(file.fd, buffer, offsetBytes)).toString("latin1");
}

describe("file I/O", () => {
  it("creates files that only their owner reads", () => {
    expect(statSync(join(directory, "disk")).mode & 0o777).toBe(0o600);
  });

  it("reads what was written, and less at the end of the file", () => {
    fill("0123456789");
    expect(content(3, 4)).toBe("3456");
    expect(content(8, 4)).toBe("89");
    expect(content(10, 4)).toBe("");
  });

  it("reaches beyond 4 GiB", () => {
    fill("far", 5 * 2 ** 30);
    expect(content(5 * 2 ** 30, 3)).toBe("far");
    expect(statSync(join(directory, "disk")).size).toBe(5 * 2 ** 30 + 3);
  });

  it("tells data from holes", () => {
    io.ftruncate(file.fd, 2 ** 20);
    expect(io.seekData(file.fd, 0)).toBeNull();
    expect(io.seekHole(file.fd, 0)).toBe(0);
    fill("x", 65536);
    expect(io.seekData(file.fd, 0)).toBe(65536);
    expect(io.seekHole(file.fd, 65536)).toBe(65536 + 4096);
  });

  it("gives the storage of a punched range back, and zeroes it", () => {
    fill("a".repeat(12288));
    io.punchHole(file.fd, 4096, 4096);
    expect(content(4095, 4098)).toBe(`a${"\0".repeat(4096)}a`);
    expect(io.seekHole(file.fd, 0)).toBe(4096);
  });

  it("names the call and the error of what fails", () => {
    expect(() => io.pread(-1, Buffer.alloc(1), 0)).toThrow("pread: bad file descriptor (EBADF)");
    expect(() => io.openFile("a\0b")).toThrow(RangeError);
  });
});

describe("vectored I/O", () => {
  it("scatters and gathers over native memory", () => {
    using memory = Mapping.anonymous(4096);
    using iovecs = new IovecBlock(3);
    const bytes = Buffer.from(memory.buffer);
    bytes.write("headbodytail");
    iovecs.set(0, memory.hostAddress + 8, 4);
    iovecs.set(1, memory.hostAddress, 4);
    expect(io.pwritev(file.fd, iovecs, 2, 0)).toBe(8);
    expect(content(0, 9)).toBe("tailhead");
    iovecs.set(2, memory.hostAddress + 100, 4);
    expect(io.preadv(file.fd, iovecs, 3, 0)).toBe(8);
    expect(bytes.toString("latin1", 0, 12)).toBe("headbodytail");
  });

  it("refuses entries beyond its room", () => {
    using iovecs = new IovecBlock(2);
    expect(() => iovecs.set(2, 0, 0)).toThrow(RangeError);
    expect(() => new IovecBlock(1025)).toThrow(RangeError);
  });

  it("runs on the pool, and reports errors as negative numbers", async () => {
    using memory = Mapping.anonymous(4096);
    using iovecs = new IovecBlock(1);
    Buffer.from(memory.buffer).write("async");
    iovecs.set(0, memory.hostAddress, 5);
    const fd = file.fd;
    const run = (call: (done: io.IoDone) => void) => new Promise<number>((resolve) => call(resolve));
    expect(await run((done) => io.pwritevAsync(fd, iovecs, 1, 0, done))).toBe(5);
    expect(await run((done) => io.fdatasyncAsync(fd, done))).toBe(0);
    expect(await run((done) => io.preadvAsync(fd, iovecs, 1, 2, done))).toBe(3);
    expect(Buffer.from(memory.buffer).toString("latin1", 0, 5)).toBe("yncnc");
    expect(await run((done) => io.punchHoleAsync(fd, 0, 4096, done))).toBe(0);
    expect(await run((done) => io.preadvAsync(-1, iovecs, 1, 0, done))).toBe(-9);
  });
});
