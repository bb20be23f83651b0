import { describe, expect, it } from "@jest/globals";
import { Bounce } from "./bounce.ts";
import type { IoVector } from "./io-vector.ts";
import type { IoCompletion } from "./storage.ts";
import { MemoryBuffer } from "./testing/memory-buffer.ts";

const EIO = 5;
const PIECE = 256 * 1024;

/** A file whose pieces end when the test says so. */
class FakeFile {
  readonly asked: string[] = [];
  readonly #pending: IoCompletion[] = [];

  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#ask("read", offsetBytes, vector, completion);
  }

  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#ask("write", offsetBytes, vector, completion);
  }

  end(errno = 0): void {
    this.#pending.shift()?.completed(errno);
  }

  #ask(what: string, offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    expect(vector.isAligned(4096)).toBe(true);
    this.asked.push(`${what} ${offsetBytes}+${vector.lengthBytes}`);
    this.#pending.push(completion);
  }
}

function setUp() {
  const file = new FakeFile();
  const bounce = new Bounce(file);
  const ended: string[] = [];
  const completion = (name: string) => ({ completed: (errno: number) => ended.push(`${name}=${errno}`) });
  return { file, bounce, ended, completion };
}

describe("a bounce buffer", () => {
  it("does large requests in pieces, and each from where the one before ended", () => {
    using memory = new MemoryBuffer(3 * PIECE);
    const { file, bounce, ended, completion } = setUp();
    using vector = memory.vector(1, 2 * PIECE + 4096);
    bounce.read(8192, vector, completion("a"));
    for (let i = 0; i < 3; i++) file.end();
    expect(file.asked).toEqual([
      `read 8192+${PIECE}`,
      `read ${8192 + PIECE}+${PIECE}`,
      `read ${8192 + 2 * PIECE}+4096`,
    ]);
    expect(ended).toEqual(["a=0"]);
    bounce[Symbol.dispose]();
  });

  it("does one request after the other, also behind one that failed", () => {
    using memory = new MemoryBuffer(4 * 4096);
    const { file, bounce, ended, completion } = setUp();
    const vectors = [1, 2, 3].map((offset) => memory.vector(offset, 4096));
    bounce.read(0, vectors[0] as IoVector, completion("a"));
    bounce.write(4096, vectors[1] as IoVector, completion("b"));
    bounce.read(8192, vectors[2] as IoVector, completion("c"));
    expect(file.asked).toEqual(["read 0+4096"]);
    file.end();
    file.end(EIO);
    file.end();
    expect(file.asked).toEqual(["read 0+4096", "write 4096+4096", "read 8192+4096"]);
    expect(ended).toEqual(["a=0", `b=${EIO}`, "c=0"]);
    bounce[Symbol.dispose]();
  });

  it("leaves in the vector what a failed write did not write", () => {
    using memory = new MemoryBuffer(2 * PIECE);
    const { file, bounce, ended, completion } = setUp();
    using vector = memory.vector(1, PIECE + 4096);
    bounce.write(0, vector, completion("a"));
    file.end();
    file.end(EIO);
    expect([vector.lengthBytes, ended]).toEqual([4096, [`a=${EIO}`]]);
    bounce[Symbol.dispose]();
  });
});
