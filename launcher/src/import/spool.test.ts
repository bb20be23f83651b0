import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "@jest/globals";
import { BUFFER_BYTES } from "./sparse-writer.ts";
import { Spool, SpoolForgot } from "./spool.ts";

const directory = mkdtempSync(join(tmpdir(), "spool-"));
afterAll(() => rmSync(directory, { recursive: true }));

const CHUNK_BYTES = 300_000;
const STEP_BYTES = 65_536;
const file = randomBytes(40 * BUFFER_BYTES + 12_345);

class Fixture implements AsyncDisposable {
  readonly spool: Spool;
  readonly filled: Promise<void>;
  readonly #source;
  givenBytes = 0;

  constructor({ keepsAll = false } = {}) {
    this.spool = new Spool({ directory, limitBytes: file.length, keepsAll });
    this.#source = this.spool.asSource(file.length);
    this.filled = this.spool.fill(this.#chunks());
    this.filled.catch(() => undefined);
  }

  async *#chunks() {
    for (let at = 0; at < file.length; at += CHUNK_BYTES) {
      yield new Uint8Array(file.subarray(at, at + CHUNK_BYTES));
      this.givenBytes = Math.min(file.length, at + CHUNK_BYTES);
    }
  }

  async expectSame(offsetBytes: number, lengthBytes: number, isEndShared = false): Promise<void> {
    using view = await this.#source.view({ offsetBytes, lengthBytes, isEndShared });
    expect(Buffer.compare(view.bytes, file.subarray(offsetBytes, offsetBytes + lengthBytes))).toBe(0);
  }

  /** From one end to the other, except where `passesOver` says so. */
  async readThrough(passesOver: (offsetBytes: number) => boolean = () => false): Promise<void> {
    for (let at = 0; at < file.length; at += STEP_BYTES)
      if (!passesOver(at)) await this.expectSame(at, Math.min(STEP_BYTES, file.length - at));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.spool[Symbol.asyncDispose]();
  }
}

describe("a file that is read while it comes in", () => {
  it("needs no scratch where it is read from one end to the other, and forgets what was read", async () => {
    await using fixture = new Fixture();
    await fixture.readThrough();
    await fixture.filled;
    expect(fixture.spool.spilledPieces).toBe(0);
    await expect(fixture.expectSame(0, 512)).rejects.toThrow(SpoolForgot);
  });

  it("has pieces on scratch that were passed over, and reads them later", async () => {
    await using fixture = new Fixture();
    const isLate = (at: number) => at % (2 * BUFFER_BYTES) === STEP_BYTES;
    await fixture.readThrough(isLate);
    await fixture.filled;
    expect(fixture.spool.spilledPieces).toBeGreaterThan(5);
    expect(fixture.spool.spilledPieces).toBeLessThan(12);
    for (let at = STEP_BYTES; at < file.length; at += 2 * BUFFER_BYTES) await fixture.expectSame(at, STEP_BYTES);
  });

  it("is read where its end is asked for first, from scratch and across pieces", async () => {
    await using fixture = new Fixture();
    await fixture.expectSame(file.length - 100, 100);
    await fixture.filled;
    for (let at = 7; at + 777_777 < file.length; at += 777_777) await fixture.expectSame(at, 777_777);
    await fixture.expectSame(5, 3 * BUFFER_BYTES);
  });

  it("has what it kept as often as it is asked for", async () => {
    await using fixture = new Fixture({ keepsAll: true });
    await fixture.filled;
    await fixture.readThrough();
    await fixture.readThrough();
  });

  it("keeps a sector that two ranges share until the second one was read", async () => {
    await using fixture = new Fixture();
    const border = BUFFER_BYTES - 100;
    for (let at = 0; at + STEP_BYTES < BUFFER_BYTES; at += STEP_BYTES) await fixture.expectSame(at, STEP_BYTES);
    await fixture.expectSame(BUFFER_BYTES - STEP_BYTES, STEP_BYTES, true);
    await fixture.expectSame(20 * BUFFER_BYTES, 512);
    await fixture.expectSame(border, 1000);
  });

  it("lets the server wait while nobody waits for what comes", async () => {
    await using fixture = new Fixture();
    await fixture.expectSame(0, BUFFER_BYTES);
    // Whatever can happen without a reader has happened then.
    for (let before = -1; before !== fixture.givenBytes; await new Promise((resolve) => setTimeout(resolve, 20)))
      before = fixture.givenBytes;
    expect(fixture.givenBytes).toBeLessThan(16 * BUFFER_BYTES);
    fixture.spool.endReading();
    await fixture.filled;
    expect(fixture.spool.spilledPieces).toBe(0);
  });

  it("is not read beyond its end", async () => {
    await using fixture = new Fixture();
    await expect(fixture.expectSame(file.length - 10, 11)).rejects.toThrow(`the file ends at ${file.length}`);
  });

  it("fails for who waits when its source does, and for who fills it when it is closed", async () => {
    await using spool = new Spool({ directory, limitBytes: file.length, keepsAll: false });
    const waiting = spool.asSource(file.length).view({ offsetBytes: 0, lengthBytes: file.length });
    const broken = async function* () {
      yield new Uint8Array(10);
      throw new Error("broke");
    };
    await expect(spool.fill(broken())).rejects.toThrow("broke");
    await expect(waiting).rejects.toThrow("broke");

    const closed = new Fixture();
    await closed.expectSame(0, 10);
    await closed[Symbol.asyncDispose]();
    await expect(closed.filled).rejects.toThrow("closed");
  });
});
