import { describe, expect, it } from "@jest/globals";
import { patternDisk } from "./testguest.ts";

describe("the disk of the test guest", () => {
  it("says at each place where that is", () => {
    const disk = patternDisk(4096);
    expect(disk).toHaveLength(4096);
    expect(disk.readBigUInt64LE(0)).toBe(0n);
    expect(disk.readBigUInt64LE(512)).toBe(512n);
    expect(disk.readBigUInt64LE(4088)).toBe(4088n);
  });
});
