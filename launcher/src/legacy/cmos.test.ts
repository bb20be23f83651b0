import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { ramRegions } from "../boot/x86/layout.ts";
import { Cmos } from "./cmos.ts";
import { readByte, writeByte } from "./testing.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const NOON = Date.UTC(2031, 10, 9, 23, 58, 7);

function make(ramBytes = 64 * MIB) {
  const device = new Cmos(ramRegions(ramBytes), () => NOON);
  const read = (index: number) => {
    writeByte(device.ports, 0, index);
    return readByte(device.ports, 1);
  };
  const readNumber = (...indexes: number[]) => indexes.reduce((sum, index, i) => sum + read(index) * 2 ** (8 * i), 0);
  return { device, read, readNumber };
}

describe("CMOS clock", () => {
  it("tells the host's time in UTC, in decimal digits", () => {
    const { read } = make();
    const registers = [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32];
    expect(registers.map(read)).toEqual([0x07, 0x58, 0x23, 1, 0x09, 0x11, 0x31, 0x20]);
  });

  it("is never in the middle of an update, and says that it is in 24-hour decimal mode", () => {
    const { read } = make();
    expect([read(0x0a) & 0x80, read(0x0b) & 0x06, read(0x0c), read(0x0d)]).toEqual([0, 0x02, 0, 0x80]);
  });

  it("ignores the NMI bit of the index", () => {
    const { read } = make();
    expect(read(0x84)).toBe(0x23);
  });

  it("gives nothing at the index port", () => {
    const { device, read } = make();
    read(0x0d);
    expect(readByte(device.ports, 0)).toBe(0xff);
  });

  it.each([
    { ram: 16 * MIB, extendedKib: 15 * 1024, above16Mib: 0, above4Gib: 0 },
    { ram: 1024 * MIB, extendedKib: 0xffff, above16Mib: 1008 * 16, above4Gib: 0 },
    { ram: 9 * GIB, extendedKib: 0xffff, above16Mib: 0xbf00, above4Gib: (6 * GIB) / 65536 },
  ])("tells the size of $ram bytes of memory", ({ ram, extendedKib, above16Mib, above4Gib }) => {
    const { readNumber } = make(ram);
    expect(readNumber(0x15, 0x16)).toBe(640);
    expect(readNumber(0x17, 0x18)).toBe(extendedKib);
    expect(readNumber(0x30, 0x31)).toBe(extendedKib);
    expect(readNumber(0x34, 0x35)).toBe(above16Mib);
    expect(readNumber(0x5b, 0x5c, 0x5d)).toBe(above4Gib);
  });

  it("keeps nothing that is written", () => {
    const access = fc.tuple(fc.nat(1), fc.uint8Array({ minLength: 1, maxLength: 8 }));
    const fresh = make();
    const all = Array.from({ length: 128 }, (_, index) => index);
    const expected = all.map(fresh.read);
    fc.assert(
      fc.property(fc.array(access), (accesses) => {
        const { device, read } = make();
        for (const [offset, data] of accesses) device.ports.write(offset, data);
        expect(all.map(read)).toEqual(expected);
      }),
    );
  });
});
