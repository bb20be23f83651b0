import { describe, expect, it } from "@jest/globals";
import { DirtyBitmap, PAGE_SIZE } from "./dirty-bitmap.ts";
import { gpa, gpaFromHalves } from "./gpa.ts";
import { GuestMemory, GuestMemoryError } from "./guest-memory.ts";

const GIB = 2 ** 30;
const HIGH = gpa(4 * GIB);

/** 4 pages at 0 and 2 pages at 4 GiB, as RAM is split around the hole. */
function memory() {
  const buffer = new ArrayBuffer(6 * PAGE_SIZE);
  const dirty = new DirtyBitmap(buffer.byteLength);
  const regions = [
    { gpa: gpa(0), sizeBytes: 4 * PAGE_SIZE, offsetBytes: 0 },
    { gpa: HIGH, sizeBytes: 2 * PAGE_SIZE, offsetBytes: 4 * PAGE_SIZE },
  ];
  return {
    ram: new GuestMemory({ buffer, hostAddress: 0x7f0000000000 }, regions, dirty),
    bytes: new Uint8Array(buffer),
    dirty,
  };
}

describe("GuestMemory", () => {
  it("reads and writes little-endian numbers in each region", () => {
    const { ram, bytes } = memory();
    ram.writeU32(gpa(0x10), 0x12345678);
    ram.writeU64(HIGH, 0x1_0000_0002);
    ram.writeU16(gpa(0x20), 0xbeef);
    expect([...bytes.subarray(0x10, 0x14)]).toEqual([0x78, 0x56, 0x34, 0x12]);
    expect([...bytes.subarray(4 * PAGE_SIZE, 4 * PAGE_SIZE + 8)]).toEqual([2, 0, 0, 0, 1, 0, 0, 0]);
    expect(ram.readU32(gpa(0x10))).toBe(0x12345678);
    expect(ram.readU16(gpa(0x20))).toBe(0xbeef);
    expect(ram.readU8(gpa(0x20))).toBe(0xef);
    expect(ram.loadAcquireU16(gpa(0x20))).toBe(0xbeef);
    ram.storeReleaseU16(gpa(HIGH + 6), 0xaa55);
    expect(ram.readU16(gpa(HIGH + 6))).toBe(0xaa55);
  });

  it.each([
    ["the end of a region", 4 * PAGE_SIZE - 1, 2],
    ["the hole", 3 * GIB, 1],
    ["across two regions", 4 * PAGE_SIZE - 4, 8],
    ["the end of RAM", HIGH + 2 * PAGE_SIZE - 1, 2],
    ["beyond RAM", HIGH + 2 * PAGE_SIZE, 0],
    ["a length that wraps", 0, 2 ** 52],
    ["a length that is no number", 0, Number.NaN],
    ["a negative length", 8, -4],
  ])("refuses %s", (_name, address, lengthBytes) => {
    const { ram } = memory();
    expect(ram.contains(gpa(address), lengthBytes)).toBe(false);
    expect(() => ram.hostAddress(gpa(address), lengthBytes)).toThrow(GuestMemoryError);
    expect(() => ram.view(gpa(address), lengthBytes)).toThrow(GuestMemoryError);
  });

  it("reads words that are all in one region, or none", () => {
    const { ram } = memory();
    const at = gpa(4 * PAGE_SIZE - 16);
    for (let i = 0; i < 4; i++) ram.writeU32(gpa(at + 4 * i), 0x8000_0000 + i);
    const words = new Uint32Array(4);
    ram.readWords(at, words);
    expect([...words]).toEqual([0x8000_0000, 0x8000_0001, 0x8000_0002, 0x8000_0003]);
    ram.writeU32(HIGH, 7);
    ram.readWords(HIGH, words);
    expect([...words]).toEqual([7, 0, 0, 0]);
    expect(() => ram.readWords(gpa(at + 4), words)).toThrow(GuestMemoryError);
  });

  it("gives host addresses that follow the backing, not the guest's map", () => {
    const { ram } = memory();
    expect(ram.hostAddress(HIGH, 2 * PAGE_SIZE)).toBe(0x7f0000000000 + 4 * PAGE_SIZE);
  });

  it("marks each page that the VMM writes while tracking is on, and none before", () => {
    const { ram, dirty } = memory();
    ram.writeU8(gpa(0), 1);
    expect(dirty.take()).toEqual(new Uint32Array(0));
    dirty.enable();
    ram.write(gpa(PAGE_SIZE - 1), Uint8Array.of(1, 2));
    ram.storeReleaseU16(HIGH, 1);
    ram.markDirty(gpa(3 * PAGE_SIZE), 1);
    expect(dirty.take()).toEqual(Uint32Array.of(0b11011));
    ram.fill(gpa(0), 2 * PAGE_SIZE, 0);
    ram.markDirty(gpa(0), 0);
    expect(dirty.take()).toEqual(Uint32Array.of(0b11));
    expect(dirty.take()).toEqual(Uint32Array.of(0));
  });

  it("copies in and out", () => {
    const { ram } = memory();
    ram.write(HIGH, Uint8Array.of(1, 2, 3));
    const out = new Uint8Array(3);
    ram.read(HIGH, out);
    expect([...out]).toEqual([1, 2, 3]);
    expect(() => ram.read(gpa(HIGH + 2 * PAGE_SIZE - 2), out)).toThrow(GuestMemoryError);
  });

  it("wants regions that follow each other in the backing and fit", () => {
    const backing = { buffer: new ArrayBuffer(PAGE_SIZE), hostAddress: 0 };
    const region = { gpa: gpa(0), sizeBytes: 2 * PAGE_SIZE, offsetBytes: 0 };
    expect(() => new GuestMemory(backing, [region], new DirtyBitmap(0))).toThrow("exceed");
    expect(() => new GuestMemory(backing, [{ ...region, offsetBytes: 8 }], new DirtyBitmap(0))).toThrow("follow");
  });
});

describe("guest-physical addresses", () => {
  it("come from halves as the guest writes them, up to 52 bits", () => {
    expect(gpaFromHalves(0x80000000 | 0, 1)).toBe(0x1_8000_0000);
    expect(gpaFromHalves(0, 0xfffff)).toBe(0xfffff * 2 ** 32);
    expect(gpaFromHalves(0, 0x100000)).toBeNull();
    expect(gpaFromHalves(0, -1)).toBeNull();
  });

  it("are whole numbers", () => {
    expect(() => gpa(1.5)).toThrow(RangeError);
    expect(() => gpa(-1)).toThrow(RangeError);
  });
});
