import { describe, expect, it } from "@jest/globals";
import { type CapabilityHooks, PciFunction } from "./pci-function.ts";

const identity = {
  vendorId: 0x1af4,
  deviceId: 0x1042,
  revision: 1,
  classCode: 0x018000,
  subsystemVendorId: 0x1af4,
  subsystemId: 0x40,
};
const silent = { read() {}, write() {} };

const read = (pci: PciFunction, offset: number, width: number) => {
  const data = new Uint8Array(width);
  pci.read(offset, data);
  return data.reduceRight((value, byte) => value * 256 + byte, 0);
};
const write = (pci: PciFunction, offset: number, width: number, value: number) =>
  pci.write(
    offset,
    Uint8Array.from({ length: width }, (_, i) => (value / 2 ** (8 * i)) & 0xff),
  );

describe("a PCI function", () => {
  it("shows its identity", () => {
    const pci = new PciFunction(identity);
    expect(read(pci, 0, 4)).toBe(0x10421af4);
    expect(read(pci, 8, 4)).toBe(0x01800001);
    expect(read(pci, 0x2c, 4)).toBe(0x00401af4);
    expect(read(pci, 0x0e, 1)).toBe(0);
    expect(read(pci, 0x3d, 1)).toBe(0);
  });

  it("keeps read-only registers", () => {
    const pci = new PciFunction(identity);
    for (let offset = 0; offset < 256; offset++) write(pci, offset, 1, 0xff);
    expect(read(pci, 0, 4)).toBe(0x10421af4);
    expect(read(pci, 4, 2)).toBe(0x0546);
    expect(read(pci, 0x10, 4)).toBe(0);
    expect(read(pci, 0x3c, 1)).toBe(0xff);
  });

  it("links capabilities in order, dword aligned", () => {
    const pci = new PciFunction(identity);
    expect(read(pci, 6, 2)).toBe(0);
    const first = pci.addCapability(9, Uint8Array.of(1, 2, 3));
    const second = pci.addCapability(0x11, new Uint8Array(10));
    expect([first, second]).toEqual([0x40, 0x48]);
    expect(read(pci, 6, 2)).toBe(0x10);
    expect(read(pci, 0x34, 1)).toBe(first);
    expect(read(pci, first, 4)).toBe(0x02014809);
    expect(read(pci, second, 2)).toBe(0x0011);
    expect(() => pci.addCapability(9, new Uint8Array(180))).toThrow(RangeError);
  });

  it("gives capability accesses to their hooks, with offsets of the capability", () => {
    const pci = new PciFunction(identity);
    const seen: string[] = [];
    const hooks: CapabilityHooks = {
      read: (offset, data) => {
        seen.push(`read ${offset}`);
        data.fill(0xaa);
      },
      written: (offset, data) => seen.push(`write ${offset} ${data.length}`),
    };
    const at = pci.addCapability(9, new Uint8Array(6), Uint8Array.of(0, 0, 0xff, 0, 0, 0), hooks);
    write(pci, at + 4, 2, 0x5566);
    expect(pci.load(at + 4, 2)).toBe(0x0066);
    expect(read(pci, at + 4, 1)).toBe(0xaa);
    expect(seen).toEqual(["write 4 2", "read 4"]);
  });

  it("answers the sizing of a 64-bit BAR", () => {
    const pci = new PciFunction(identity);
    pci.addBar({ index: 0, sizeBytes: 0x8000, handler: silent });
    write(pci, 0x10, 4, 0xffffffff);
    write(pci, 0x14, 4, 0xffffffff);
    expect(read(pci, 0x10, 4)).toBe(0xffff8004);
    expect(read(pci, 0x14, 4)).toBe(0xffffffff);
  });

  it("decodes an address only while memory decoding is on", () => {
    const pci = new PciFunction(identity);
    const bar = { index: 2, sizeBytes: 0x1000, handler: silent };
    pci.addBar(bar);
    pci.setBootAddress(bar, 0x20_8000_1000);
    expect(pci.decodedAddress(2)).toBeNull();
    write(pci, 4, 2, 2);
    expect(pci.decodedAddress(2)).toBe(0x20_8000_1000);
    write(pci, 0x1b, 1, 0x90);
    expect(pci.decodedAddress(2)).toBe(0x20_9000_1000);
    write(pci, 0x1c, 4, 0);
    expect(pci.decodedAddress(2)).toBe(0x9000_1000);
  });

  it("tells of changes to the command register and BARs only", () => {
    const pci = new PciFunction(identity);
    let changes = 0;
    pci.onDecodeChanged = () => changes++;
    write(pci, 0x3c, 1, 5);
    write(pci, 6, 2, 0xffff);
    expect(changes).toBe(0);
    write(pci, 4, 1, 2);
    write(pci, 0x24, 4, 0);
    expect(changes).toBe(2);
  });

  it("resets to decoding off and BARs at their boot addresses", () => {
    const pci = new PciFunction(identity);
    const bar = { index: 0, sizeBytes: 0x1000, handler: silent };
    pci.addBar(bar);
    pci.setBootAddress(bar, 0xc000_0000);
    write(pci, 4, 2, 6);
    write(pci, 0x10, 4, 0xd000_0000);
    pci.reset();
    expect(read(pci, 4, 2)).toBe(0);
    expect(read(pci, 0x10, 4)).toBe(0xc0000004);
  });

  it("refuses BARs that the registers cannot hold", () => {
    const pci = new PciFunction(identity);
    for (const [index, sizeBytes] of [
      [1, 4096],
      [0, 100],
      [0, 12288],
      [6, 4096],
    ] as const)
      expect(() => pci.addBar({ index, sizeBytes, handler: silent })).toThrow(RangeError);
  });

  it("reads zero in the extended space, also across its border", () => {
    const pci = new PciFunction(identity);
    expect(read(pci, 0x100, 4)).toBe(0);
    write(pci, 0xffc, 4, 0xffffffff);
    expect(read(pci, 0xffc, 4)).toBe(0);
  });
});
