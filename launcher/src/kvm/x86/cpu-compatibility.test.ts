import { describe, expect, it } from "@jest/globals";
import { missingFeatures } from "./cpu-compatibility.ts";
import type { CpuidEntry } from "./cpuid.ts";

const entry = (leaf: number, registers: Partial<CpuidEntry>): CpuidEntry => ({
  leaf,
  subleaf: 0,
  flags: 0,
  eax: 0,
  ebx: 0,
  ecx: 0,
  edx: 0,
  ...registers,
});

describe("a guest's processor on another host", () => {
  it("finds all that it has", () => {
    const guest = [entry(7, { eax: 1, ebx: 1 << 5 }), entry(1, { ecx: 1 << 25 })];
    const host = [entry(7, { eax: 2, ebx: (1 << 5) | (1 << 16) }), entry(1, { ecx: (1 << 25) | (1 << 28) })];
    expect(missingFeatures(guest, host)).toEqual([]);
  });

  it("names what it does not find", () => {
    const guest = [
      entry(7, { eax: 1, ebx: (1 << 31) | (1 << 5), ecx: 1 << 30 }),
      entry(7, { subleaf: 1, eax: 1 << 4 }),
    ];
    const host = [entry(7, { eax: 0, ebx: 1 << 5 })];
    expect(missingFeatures(guest, host)).toEqual(["cpuid 0x7 up to 1", "avx512vl", "cpuid 7/0/ecx bit 30", "avx_vnni"]);
  });

  it("does not take for features what only tells how things are", () => {
    const guest = [entry(1, { ecx: 1 << 27, edx: 1 << 28, ebx: 0x1234 }), entry(7, { ecx: 1 << 4 })];
    expect(missingFeatures(guest, [])).toEqual([]);
  });
});
