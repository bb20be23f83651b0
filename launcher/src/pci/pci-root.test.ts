import { describe, expect, it } from "@jest/globals";
import { AddressSpace } from "../memory/address-space.ts";
import { type BarDefinition, PciFunction } from "./pci-function.ts";
import { type PciDevice, PciRoot, PciSpaceError } from "./pci-root.ts";

const WINDOW = { start: 0xc000_0000, sizeBytes: 0x100_0000 };
const HIGH_WINDOW = { start: 0x40_0000_0000, sizeBytes: 0x100_0000 };
const BAR_SIZE = 0x8000;

/** A device whose BAR reads as `mark` everywhere. */
function device(mark: number) {
  const moves: (number | null)[] = [];
  const pci = new PciFunction({
    vendorId: 0x1af4,
    deviceId: 0x1000 + mark,
    revision: 1,
    classCode: 0,
    subsystemVendorId: 0,
    subsystemId: 0,
  });
  const bar: BarDefinition = {
    index: 0,
    sizeBytes: BAR_SIZE,
    handler: { read: (_offset, data) => void data.fill(mark), write() {} },
    onMoved: (address) => moves.push(address),
  };
  pci.addBar(bar);
  const made: PciDevice = { pci, reset: async () => pci.reset() };
  return { ...made, bar, moves };
}

function setUp() {
  const mmio = new AddressSpace("mmio");
  const root = new PciRoot(mmio, [WINDOW, HIGH_WINDOW]);
  const ecam = (slot: number, register: number, width: number, value?: number) => {
    const data = Uint8Array.from({ length: width }, (_, i) => ((value ?? 0) / 2 ** (8 * i)) & 0xff);
    const offset = slot * 0x8000 + register;
    if (value !== undefined) root.ecam.write(offset, data);
    else root.ecam.read(offset, data);
    return data.reduceRight((sum, byte) => sum * 256 + byte, 0);
  };
  const at = (address: number) => {
    const data = new Uint8Array(1);
    mmio.read(address, data);
    return data[0];
  };
  const moveBar = (slot: number, address: number) => {
    ecam(slot, 0x10, 4, address % 2 ** 32);
    ecam(slot, 0x14, 4, Math.floor(address / 2 ** 32));
  };
  return { mmio, root, ecam, at, moveBar };
}

const dword = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);

describe("the PCI root", () => {
  it("has a host bridge at 00:00.0 and all ones where nobody is", () => {
    const { ecam } = setUp();
    expect(ecam(0, 0, 4)).toBe(0x0d578086);
    expect(ecam(0, 8, 4)).toBe(0x06000000);
    expect(ecam(1, 0, 4)).toBe(0xffffffff);
    expect(ecam(0, 0x1000, 4)).toBe(0xffffffff);
    expect(ecam(32, 0, 4)).toBe(0xffffffff);
  });

  it("gives devices slots and BARs in the order they come", () => {
    const { root, ecam } = setUp();
    expect([root.add(device(1)), root.add(device(2)), root.add(device(9), 9)]).toEqual([1, 2, 9]);
    expect(ecam(1, 0x10, 4)).toBe(0xc0000004);
    expect(ecam(2, 0x10, 4)).toBe(0xc0008004);
    expect(ecam(9, 0x10, 4)).toBe(0xc0010004);
    expect(ecam(9, 2, 2)).toBe(0x1009);
  });

  it("takes 31 devices, and refuses one more and a slot that is taken", () => {
    const { root } = setUp();
    for (let i = 0; i < 31; i++) root.add(device(i));
    expect(() => root.add(device(99))).toThrow(PciSpaceError);
    expect(() => root.add(device(99), 3)).toThrow(PciSpaceError);
  });

  it("goes on to the next window when the first is full, and frees the slot when all are", () => {
    const mmio = new AddressSpace("mmio");
    const root = new PciRoot(mmio, [
      { start: 0xc000_0000, sizeBytes: BAR_SIZE },
      { start: 0x40_0000_1000, sizeBytes: 2 * BAR_SIZE },
    ]);
    const [a, b] = [device(1), device(2)];
    root.add(a);
    root.add(b);
    expect(b.pci.bootAddress(b.bar)).toBe(0x40_0000_8000);
    expect(() => root.add(device(3))).toThrow(PciSpaceError);
    root.remove(2);
    expect(root.add(device(4))).toBe(2);
  });

  it("lets a BAR answer only while memory decoding is on", () => {
    const { root, ecam, at } = setUp();
    root.add(device(1));
    expect(at(0xc000_0000)).toBe(0xff);
    ecam(1, 4, 2, 2);
    expect(at(0xc000_0000)).toBe(1);
    expect(at(0xc000_7fff)).toBe(1);
    expect(at(0xc000_8000)).toBe(0xff);
    ecam(1, 4, 2, 0);
    expect(at(0xc000_0000)).toBe(0xff);
  });

  it("moves a BAR that is written in two halves, and survives sizing while decoding is on", () => {
    const { root, ecam, at, moveBar } = setUp();
    const made = device(1);
    root.add(made);
    ecam(1, 4, 2, 2);
    moveBar(1, 0x40_0000_8000);
    expect([at(0x40_0000_8000), at(0xc000_0000)]).toEqual([1, 0xff]);
    ecam(1, 0x10, 4, 0xffffffff);
    ecam(1, 0x14, 4, 0xffffffff);
    expect(at(0x40_0000_8000)).toBe(0xff);
    moveBar(1, 0xc000_0000);
    expect(at(0xc000_0000)).toBe(1);
    expect(made.moves.at(-1)).toBe(0xc000_0000);
  });

  it.each([
    ["RAM", 0x1000_0000],
    ["beyond the window", 0xc100_0000],
    ["the last page of the address space", 2 ** 64 - 2 ** 20],
  ])("does not let a BAR answer over %s", (_where, address) => {
    const { root, ecam, at, moveBar } = setUp();
    root.add(device(1));
    ecam(1, 4, 2, 2);
    moveBar(1, address);
    expect(at(address)).toBe(0xff);
    expect(at(0xc000_0000)).toBe(0xff);
  });

  it("does not let a BAR answer over another one, until that one moves away", () => {
    const { root, ecam, at, moveBar } = setUp();
    root.add(device(1));
    root.add(device(2));
    ecam(1, 4, 2, 2);
    ecam(2, 4, 2, 2);
    moveBar(2, 0xc000_0000);
    expect([at(0xc000_0000), at(0xc000_8000)]).toEqual([1, 0xff]);
    moveBar(1, 0xc010_0000);
    expect([at(0xc000_0000), at(0xc010_0000)]).toEqual([2, 1]);
  });

  it("tells a device once of each move", () => {
    const { root, ecam } = setUp();
    const made = device(1);
    root.add(made);
    ecam(1, 4, 2, 2);
    ecam(1, 4, 2, 6);
    ecam(1, 4, 2, 0);
    expect(made.moves).toEqual([0xc000_0000, null]);
  });

  it("takes devices off while the guest runs, and their BARs with them", () => {
    const { root, ecam, at } = setUp();
    const made = device(1);
    root.add(made);
    ecam(1, 4, 2, 2);
    root.remove(1);
    expect([at(0xc000_0000), ecam(1, 0, 4)]).toEqual([0xff, 0xffffffff]);
    expect(made.moves.at(-1)).toBeNull();
    expect(() => root.remove(1)).toThrow(PciSpaceError);
    expect(() => root.remove(0)).toThrow(PciSpaceError);
  });

  it("puts everything back at reset", async () => {
    const { root, ecam, at, moveBar } = setUp();
    root.add(device(1));
    ecam(1, 4, 2, 2);
    moveBar(1, 0xc010_0000);
    await root.reset();
    expect(at(0xc010_0000)).toBe(0xff);
    ecam(1, 4, 2, 2);
    expect(at(0xc000_0000)).toBe(1);
  });

  describe("through ports 0xcf8 and 0xcfc", () => {
    const config = (root: PciRoot, address: number, offset: number, width: number) => {
      root.ports.write(0, dword(address));
      const data = new Uint8Array(width);
      root.ports.read(4 + offset, data);
      return data.reduceRight((sum, byte) => sum * 256 + byte, 0);
    };

    it("reads bytes, words and dwords", () => {
      const { root } = setUp();
      root.add(device(1));
      expect(config(root, 0x80000800, 0, 4)).toBe(0x10011af4);
      expect(config(root, 0x80000800, 2, 2)).toBe(0x1001);
      expect(config(root, 0x80000800, 3, 1)).toBe(0x10);
    });

    it("writes", () => {
      const { root, at } = setUp();
      root.add(device(1));
      root.ports.write(0, dword(0x80000804));
      root.ports.write(4, Uint8Array.of(2));
      expect(at(0xc000_0000)).toBe(1);
    });

    it.each([
      ["the enable bit is off", 0x00000800],
      ["the slot is empty", 0x80001000],
      ["the function is not 0", 0x80000900],
      ["the bus is not 0", 0x80010800],
    ])("reads all ones when %s", (_why, address) => {
      const { root } = setUp();
      root.add(device(1));
      expect(config(root, address, 0, 4)).toBe(0xffffffff);
    });

    it("keeps the address register, which only whole dwords change", () => {
      const { root } = setUp();
      root.ports.write(0, dword(0xffffffff));
      root.ports.write(1, Uint8Array.of(6));
      root.ports.write(0, Uint8Array.of(0, 0));
      const data = new Uint8Array(4);
      root.ports.read(0, data);
      expect([...data]).toEqual([0xfc, 0xff, 0xff, 0x80]);
    });
  });

  it("survives any access to any register", () => {
    const { root } = setUp();
    root.add(device(1));
    for (const width of [1, 2, 4, 8])
      for (let offset = 0; offset < 0x10000; offset += 1) {
        const data = new Uint8Array(width).fill(0xff);
        root.ecam.write(offset, data);
        root.ecam.read(offset, data);
      }
    for (const width of [1, 2, 4]) for (let port = 0; port < 8; port++) root.ports.write(port, new Uint8Array(width));
  });
});
