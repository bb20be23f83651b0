import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { AddressSpace, type RangeHandler } from "./address-space.ts";

/** Answers reads with `value` and keeps what is written, with offsets. */
function recorder(value: number) {
  const writes: { offset: number; bytes: number[] }[] = [];
  const handler: RangeHandler = {
    read: (_offset, data) => data.fill(value),
    write: (offset, data) => writes.push({ offset, bytes: [...data] }),
  };
  return { handler, writes };
}

function readByte(space: AddressSpace, address: number): number {
  const data = new Uint8Array(1);
  space.read(address, data);
  return data[0] ?? -1;
}

describe("AddressSpace", () => {
  it("gives an access to the handler of its range, with the offset in it", () => {
    const space = new AddressSpace("test");
    const low = recorder(1);
    const high = recorder(2);
    space.add(0x2000, 0x10, high.handler);
    space.add(0x1000, 0x10, low.handler);
    space.write(0x1004, Uint8Array.of(7, 8));
    space.write(0x200f, Uint8Array.of(9));
    expect(low.writes).toEqual([{ offset: 4, bytes: [7, 8] }]);
    expect(high.writes).toEqual([{ offset: 15, bytes: [9] }]);
    expect([readByte(space, 0x1000), readByte(space, 0x2000)]).toEqual([1, 2]);
  });

  it("reads all ones and drops writes where nobody answers, or where an access straddles a border", () => {
    const space = new AddressSpace("test");
    const { handler, writes } = recorder(0);
    space.add(0x1000, 4, handler);
    const data = new Uint8Array(4);
    space.read(0x1002, data);
    space.write(0x0ffe, data);
    space.write(0x1004, data);
    expect([...data]).toEqual([0xff, 0xff, 0xff, 0xff]);
    expect(writes).toEqual([]);
  });

  it("refuses overlapping and empty ranges", () => {
    const space = new AddressSpace("ports");
    const { handler } = recorder(0);
    space.add(0x60, 5, handler);
    expect(() => space.add(0x64, 1, handler)).toThrow("ports: 0x64+0x1 is taken");
    expect(() => space.add(0x50, 0x11, handler)).toThrow(RangeError);
    expect(() => space.add(0x70, 0, handler)).toThrow("empty range");
    space.add(0x65, 1, handler);
  });

  it("forgets a range that is disposed", () => {
    const space = new AddressSpace("test");
    const range = space.add(0, 8, recorder(3).handler);
    expect(readByte(space, 0)).toBe(3);
    range[Symbol.dispose]();
    expect(readByte(space, 0)).toBe(0xff);
  });

  it("finds the right handler among any set of ranges", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(63), { maxLength: 40 }), fc.nat(66), (slots, probe) => {
        const space = new AddressSpace("property");
        for (const slot of slots) space.add(slot * 4, 4, recorder(slot).handler);
        expect(readByte(space, probe * 4 + 3)).toBe(slots.includes(probe) ? probe : 0xff);
      }),
    );
  });
});
