import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { coversCpuFeatures, formatCpuFeatures, parseCpuFeatures, x86Level } from "./cpu-features.ts";

const parsed = (text: string) => {
  const features = parseCpuFeatures(text);
  if (features === undefined) throw new Error(`not of the format: ${text}`);
  return features;
};
const covers = (host: string, guest: string) => coversCpuFeatures(parsed(host), parsed(guest));

describe("the text of CPU features", () => {
  it("comes back as it was", () => {
    const key = fc.constantFrom("1/0/ecx", "7/0/ebx", "7/1/eax", "80000001/0/edx");
    const words = fc.array(fc.tuple(key, fc.integer({ min: 1, max: 0xffff_ffff })), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(words, (entries) => {
        const features = { vendor: "AuthenticAMD", words: new Map(entries), levels: new Map([["7/0/eax", 2]]) };
        expect(parseCpuFeatures(formatCpuFeatures(features))).toEqual(features);
      }),
    );
  });

  it.each([
    "",
    "GenuineIntel",
    "GenuineIntel 1/0/ecx",
    "GenuineIntel 1/0/ecx:1ffffffff",
    "GenuineIntel 1/0/esi:1",
    "GenuineIntel  1/0/ecx:1",
    "too-long-a-vendor 1/0/ecx:1",
    `GenuineIntel ${"1/0/ecx:1 ".repeat(1000)}`,
  ])("is none where it is %j", (text) => {
    expect(parseCpuFeatures(text)).toBeUndefined();
  });
});

describe("a guest's features on a node", () => {
  it("are covered by the same, and by more", () => {
    expect(covers("GenuineIntel 1/0/ecx:3 7/0/eax#1", "GenuineIntel 1/0/ecx:3 7/0/eax#1")).toBe(true);
    expect(covers("GenuineIntel 1/0/ecx:80000007 7/0/ebx:1 7/0/eax#2", "GenuineIntel 1/0/ecx:80000003 7/0/eax#1")).toBe(
      true,
    );
  });

  it.each([
    ["lacks a feature", "GenuineIntel 1/0/ecx:7fffffff", "GenuineIntel 1/0/ecx:80000000"],
    ["lacks a whole word", "GenuineIntel 1/0/ecx:1", "GenuineIntel 1/0/ecx:1 7/0/ebx:20"],
    ["has a lower level", "GenuineIntel 1/0/ecx:1 7/0/eax#1", "GenuineIntel 1/0/ecx:1 7/0/eax#2"],
    ["is of another maker", "AuthenticAMD 1/0/ecx:3", "GenuineIntel 1/0/ecx:3"],
  ])("are not where it %s", (_, host, guest) => {
    expect(covers(host, guest)).toBe(false);
  });
});

describe("levels of x86-64", () => {
  const v2 = "1/0/ecx:982201";
  it.each([
    ["GenuineIntel 1/0/edx:1", 1],
    [`GenuineIntel ${v2} 80000001/0/ecx:1`, 2],
    [`GenuineIntel ${v2}`, 1],
    ["GenuineIntel 1/0/ecx:34d83201 7/0/ebx:128 80000001/0/ecx:21", 3],
    ["GenuineIntel 1/0/ecx:34d83201 7/0/ebx:108 80000001/0/ecx:21", 2],
    ["GenuineIntel 1/0/ecx:34d83201 7/0/ebx:d0030128 80000001/0/ecx:21", 4],
  ])("%s is level %i", (text, level) => {
    expect(x86Level(parsed(text))).toBe(level);
  });
});
