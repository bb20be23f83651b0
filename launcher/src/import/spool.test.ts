import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "@jest/globals";
import { BUFFER_BYTES } from "./sparse-writer.ts";
import { readFully, Spool } from "./spool.ts";

const directory = mkdtempSync(join(tmpdir(), "spool-"));
afterAll(() => rmSync(directory, { recursive: true }));

const CHUNK_BYTES = 300_000;
const file = randomBytes(20 * BUFFER_BYTES + 12_345);

/** The file in chunks; after each, `between` is done before the next is given. */
async function* chunks(between: (givenBytes: number) => Promise<void>) {
  for (let at = 0; at < file.length; at += CHUNK_BYTES) {
    yield new Uint8Array(file.subarray(at, at + CHUNK_BYTES));
    await between(Math.min(file.length, at + CHUNK_BYTES));
  }
}

describe("a file that is read while it comes in", () => {
  it("is read as it is at every place, from memory where that still has it, and from the file elsewhere", async () => {
    using spool = new Spool(directory, file.length);
    const counts = { recalled: 0, read: 0 };
    const source = {
      fd: spool.fd,
      sizeBytes: file.length,
      available: (endBytes: number) => spool.available(endBytes),
      recall: (into: Uint8Array, offsetBytes: number) => {
        const isRecalled = spool.recall(into, offsetBytes);
        counts[isRecalled ? "recalled" : "read"]++;
        return isRecalled;
      },
    };
    const expectSame = async (offsetBytes: number, lengthBytes: number) => {
      const into = new Uint8Array(lengthBytes);
      await readFully(source, into, offsetBytes);
      expect(Buffer.compare(into, file.subarray(offsetBytes, offsetBytes + lengthBytes))).toBe(0);
    };
    await spool.fill(
      chunks(async () => {
        const there = spool.filledBytes;
        for (const behind of [65_536, BUFFER_BYTES + 7, 2.5 * BUFFER_BYTES, 5.9 * BUFFER_BYTES, 7 * BUFFER_BYTES])
          if (behind <= there) await expectSame(there - Math.floor(behind), 65_536);
      }),
    );
    expect(counts.recalled).toBeGreaterThan(20);
    expect(counts.read).toBeGreaterThan(5);
    for (let at = 0; at < file.length; at += 777_777) await expectSame(at, Math.min(777_777, file.length - at));
  });

  it("fails for who waits when its source does", async () => {
    using spool = new Spool(directory, file.length);
    const waiting = spool.available(file.length);
    const broken = async () => {
      throw new Error("broke");
    };
    await expect(spool.fill(chunks(broken))).rejects.toThrow("broke");
    await expect(waiting).rejects.toThrow("broke");
  });
});
