import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { gpa } from "../memory/gpa.ts";
import { BootImageError } from "./boot-image-error.ts";
import { bytesSource } from "./file-source.ts";
import { LOW_RAM_END, RESET_VECTOR } from "./x86/layout.ts";
import { loadKernel } from "./x86/load-kernel.ts";
import { MIB, makeBzImage, makeElf, makeMemory, makePvhNote } from "./x86/testing.ts";

const RUNS = 300;
const memory = makeMemory(16 * MIB);
const UNTOUCHED = new Uint8Array(RESET_VECTOR - LOW_RAM_END).fill(0xa5);

/** Loads `kernel`, and answers whether it was taken; anything but BootImageError is thrown on. */
async function isTaken(kernel: Uint8Array): Promise<boolean> {
  memory.write(LOW_RAM_END, UNTOUCHED);
  const initrd = bytesSource("initrd.img", new Uint8Array(8192));
  const request = { kernel: bytesSource("vmlinuz", kernel), initrd, commandLine: "", memory, rsdp: gpa(0xe0000) };
  try {
    await loadKernel(request);
    return true;
  } catch (error) {
    if (error instanceof BootImageError) return false;
    throw error;
  } finally {
    expect(Buffer.compare(memory.view(LOW_RAM_END, UNTOUCHED.length), UNTOUCHED)).toBe(0);
  }
}

/** `file` with a few of its first bytes replaced. */
function damaged(file: Uint8Array, from: number, to: number): fc.Arbitrary<Uint8Array> {
  const change = fc.tuple(fc.integer({ min: from, max: to - 1 }), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff));
  return fc.array(change, { minLength: 1, maxLength: 12 }).map((changes) => {
    const copy = file.slice();
    for (const [offset, value] of changes) copy[offset] = value;
    return copy;
  });
}

const code = { address: MIB, bytes: new Uint8Array(64) };
const note = { type: 4, bytes: makePvhNote(MIB) };

describe("a hostile kernel is loaded or refused, and touches no structure of ours", () => {
  it.each([
    ["random bytes", fc.uint8Array({ maxLength: 2048 })],
    [
      "random bytes after an ELF magic",
      fc.uint8Array({ maxLength: 512 }).map((b) => Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, ...b)),
    ],
    ["a bzImage with a damaged header", damaged(makeBzImage(), 0x1f1, 0x268)],
    ["an ELF64 file with damaged headers", damaged(makeElf({ segments: [code, note] }), 4, 64 + 2 * 56)],
    ["an ELF32 file with damaged headers", damaged(makeElf({ bits: 32, segments: [code, note] }), 4, 52 + 2 * 32)],
    [
      "an ELF file with a damaged note",
      damaged(makeElf({ segments: [code, note] }), 64 + 2 * 56 + 64, 64 + 2 * 56 + 64 + 20),
    ],
  ])("%s", async (_name, kernels) => {
    await fc.assert(
      fc.asyncProperty(kernels, async (kernel) => void (await isTaken(kernel))),
      { numRuns: RUNS },
    );
  });

  it("any truncation of a good one is refused", async () => {
    for (const whole of [makeBzImage({ payload: new Uint8Array(0x300) }), makeElf({ segments: [note, code] })]) {
      expect(await isTaken(whole)).toBe(true);
      for (let length = 0; length < whole.length; length += 13)
        expect(await isTaken(whole.subarray(0, length))).toBe(false);
    }
  });
});
