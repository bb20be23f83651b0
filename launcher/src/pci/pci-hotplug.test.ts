import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { PciHotplug } from "./pci-hotplug.ts";

const [PLUGGED, UNPLUG, EJECT] = [0, 4, 8];

function make() {
  const told: string[] = [];
  const hotplug = new PciHotplug({
    changed: () => told.push("changed"),
    ejected: (slot) => told.push(`ejected ${slot}`),
  });
  const read = (offset: number, widthBytes = 4) => {
    const data = new Uint8Array(widthBytes);
    hotplug.ports.read(offset, data);
    return data.reduceRight((sum, byte) => sum * 256 + byte, 0);
  };
  const write = (offset: number, value: number) =>
    hotplug.ports.write(offset, new Uint8Array(Uint32Array.of(value).buffer));
  return { hotplug, told, read, write };
}

describe("the registers of PCI hot-plug", () => {
  it("tell once of each slot that came, and which are to be given up", () => {
    const { hotplug, told, read } = make();
    hotplug.plug(3);
    hotplug.plug(31);
    hotplug.askForEject(4);
    expect(told).toEqual(["changed", "changed", "changed"]);
    expect([read(PLUGGED), read(PLUGGED)]).toEqual([0x8000_0008, 0]);
    expect([read(UNPLUG), read(UNPLUG)]).toEqual([0x10, 0]);
  });

  it("take the slots that were asked for, each once, and no others", () => {
    const { hotplug, told, read, write } = make();
    hotplug.plug(3);
    hotplug.askForEject(4);
    hotplug.askForEject(31);
    told.length = 0;
    write(EJECT, 0xffff_ffff);
    write(EJECT, 0xffff_ffff);
    expect(told).toEqual(["ejected 4", "ejected 31"]);
    expect([read(PLUGGED), read(UNPLUG), read(EJECT)]).toEqual([8, 0, 0]);
  });

  it("ask again where the guest has not given up what it read of", () => {
    const { hotplug, read, told, write } = make();
    hotplug.askForEject(4);
    read(UNPLUG);
    hotplug.askForEject(4);
    expect(read(UNPLUG)).toBe(0x10);
    write(EJECT, 0x10);
    expect(told.at(-1)).toBe("ejected 4");
  });

  it("forget everything at a reset", () => {
    const { hotplug, read, told, write } = make();
    hotplug.plug(3);
    hotplug.askForEject(4);
    hotplug.reset();
    told.length = 0;
    write(EJECT, 0x10);
    expect([read(PLUGGED), read(UNPLUG), told]).toEqual([0, 0, []]);
  });

  it("answer whole registers only", () => {
    const { hotplug, read, told } = make();
    hotplug.plug(0);
    hotplug.askForEject(4);
    told.length = 0;
    expect([read(PLUGGED, 1), read(PLUGGED, 2), read(1), read(PLUGGED, 8)]).toEqual([
      0xff,
      0xffff,
      2 ** 32 - 1,
      2 ** 64,
    ]);
    hotplug.ports.write(EJECT, Uint8Array.of(0x10));
    hotplug.ports.write(EJECT + 1, new Uint8Array(4).fill(0xff));
    expect(told).toEqual([]);
    expect(read(PLUGGED)).toBe(1);
  });

  it("never eject what nobody asked for, whatever a guest writes", () => {
    const access = fc.record({ offset: fc.nat(11), data: fc.uint8Array({ minLength: 1, maxLength: 8 }) });
    fc.assert(
      fc.property(fc.array(access), (accesses) => {
        const { hotplug, told } = make();
        hotplug.plug(5);
        for (const { offset, data } of accesses) {
          hotplug.ports.write(offset, data);
          hotplug.ports.read(offset, data);
        }
        expect(told).toEqual(["changed"]);
      }),
    );
  });
});
