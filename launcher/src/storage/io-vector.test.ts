import { describe, expect, it } from "@jest/globals";
import { Mapping } from "../sys/mapping.ts";
import { IoVector } from "./io-vector.ts";

const PAGE = 4096;

function vectorOf(...ranges: [address: number, length: number][]) {
  const vector = new IoVector(8);
  for (const [address, length] of ranges) vector.append(address, length);
  return vector;
}
const ranges = (vector: IoVector) => vector.toArray().map(({ hostAddress, lengthBytes }) => [hostAddress, lengthBytes]);

describe("an I/O vector", () => {
  it("joins ranges that follow each other, and drops empty ones", () => {
    using vector = vectorOf([PAGE, 100], [PAGE + 100, 50], [9 * PAGE, 0], [5 * PAGE, 10]);
    expect(ranges(vector)).toEqual([
      [PAGE, 150],
      [5 * PAGE, 10],
    ]);
    expect([vector.count, vector.lengthBytes]).toEqual([2, 160]);
  });

  it("takes a part of another one", () => {
    using source = vectorOf([PAGE, 100], [5 * PAGE, 100], [9 * PAGE, 100]);
    using part = new IoVector(8);
    part.appendPart(source, 50, 120);
    part.appendPart(source, 250, 1000);
    expect(ranges(part)).toEqual([
      [PAGE + 50, 50],
      [5 * PAGE, 70],
      [9 * PAGE + 50, 50],
    ]);
  });

  it("is filled and zeroed, range by range, and nothing beside them", () => {
    using mapping = Mapping.anonymous(PAGE);
    const bytes = new Uint8Array(mapping.buffer).fill(9);
    using vector = vectorOf([mapping.hostAddress + 1, 3], [mapping.hostAddress + 6, 2]);
    vector.fill(Uint8Array.of(1, 2, 3, 4, 5));
    expect([...bytes.subarray(0, 9)]).toEqual([9, 1, 2, 3, 9, 9, 4, 5, 9]);
    vector.zero();
    expect([...bytes.subarray(0, 9)]).toEqual([9, 0, 0, 0, 9, 9, 0, 0, 9]);
    expect(() => vector.fill(new Uint8Array(6))).toThrow(RangeError);
  });

  it.each([
    [
      0,
      [
        [PAGE, 100],
        [5 * PAGE, 100],
      ],
    ],
    [
      30,
      [
        [PAGE + 30, 70],
        [5 * PAGE, 100],
      ],
    ],
    [100, [[5 * PAGE, 100]]],
    [150, [[5 * PAGE + 50, 50]]],
    [200, []],
  ])("drops %d bytes at the front", (dropped, left) => {
    using vector = vectorOf([PAGE, 100], [5 * PAGE, 100]);
    vector.dropFront(dropped);
    expect(ranges(vector)).toEqual(left);
    expect(vector.lengthBytes).toBe(200 - dropped);
  });

  it("tells whether all of it is aligned", () => {
    using vector = vectorOf([PAGE, 1024], [5 * PAGE, 512]);
    expect([vector.isAligned(512), vector.isAligned(1024)]).toEqual([true, false]);
  });

  it("has room for what it was made for", () => {
    using vector = new IoVector(2);
    vector.append(PAGE, 1);
    vector.append(3 * PAGE, 1);
    expect(() => vector.append(5 * PAGE, 1)).toThrow(RangeError);
  });
});
