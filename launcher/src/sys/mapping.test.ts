import { describe, expect, it } from "@jest/globals";
import { pread, pwrite } from "./file-io.ts";
import { createMemfd, Mapping } from "./mapping.ts";

describe("a shared mapping of a memfd", () => {
  it("shows what is written to the file, and the other way round", () => {
    using memfd = createMemfd("test", 8192);
    using mapping = Mapping.shared(memfd.fd, 8192);
    pwrite(memfd.fd, Buffer.from("from the file"), 4096);
    expect(Buffer.from(mapping.buffer, 4096, 13).toString()).toBe("from the file");
    new Uint8Array(mapping.buffer).set(Buffer.from("from memory"), 10);
    const read = Buffer.alloc(11);
    pread(memfd.fd, read, 10);
    expect(read.toString()).toBe("from memory");
  });

  it("leaves nothing to touch once it is disposed", () => {
    using memfd = createMemfd("test", 4096);
    const mapping = Mapping.shared(memfd.fd, 4096);
    const bytes = new Uint8Array(mapping.buffer);
    mapping[Symbol.dispose]();
    mapping[Symbol.dispose]();
    expect(bytes.length).toBe(0);
    expect(bytes[0]).toBeUndefined();
  });

  it("takes sizes beyond 4 GiB, without taking the memory", () => {
    const sizeBytes = 6 * 2 ** 30;
    using memfd = createMemfd("large", sizeBytes);
    using mapping = Mapping.shared(memfd.fd, sizeBytes);
    mapping.excludeFromCoreDump();
    const bytes = new Uint8Array(mapping.buffer);
    bytes[sizeBytes - 1] = 7;
    expect(bytes[sizeBytes - 1]).toBe(7);
    expect(mapping.hostAddress).toBeLessThan(2 ** 47);
  });
});
