import { describe, expect, it } from "@jest/globals";
import type { CpuidEntry } from "./cpuid.ts";
import { encodeCpuid } from "./cpuid.ts";
import { guestCpuid } from "./guest-cpuid.ts";

const blank = { subleaf: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 };
const ALL = 0xffff_ffff;
const all = { eax: ALL, ebx: ALL, ecx: ALL, edx: ALL };

const intel: CpuidEntry[] = [
  { ...blank, leaf: 0, eax: 0x1f, ebx: 0x756e_6547, edx: 0x4965_6e69, ecx: 0x6c65_746e },
  { ...blank, ...all, leaf: 1 },
  { ...blank, leaf: 4, subleaf: 0, flags: 1, eax: 0xfc00_4121 },
  { ...blank, leaf: 4, subleaf: 2, flags: 1, eax: 0xfc00_4143 },
  { ...blank, leaf: 4, subleaf: 3, flags: 1, eax: 0xffff_c163 },
  { ...blank, leaf: 4, subleaf: 4, flags: 1, eax: 0 },
  { ...blank, ...all, leaf: 6 },
  { ...blank, ...all, leaf: 7, flags: 1 },
  { ...blank, ...all, leaf: 0xa },
  { ...blank, leaf: 0xb, subleaf: 0, flags: 1, eax: 1, ebx: 2, ecx: 0x100, edx: 77 },
  { ...blank, leaf: 0x4000_0001, eax: 0x0100_7efb },
  { ...blank, ...all, leaf: 0x8000_0001 },
];

const amd: CpuidEntry[] = [
  { ...blank, leaf: 0, eax: 0x10, ebx: 0x6874_7541 },
  { ...blank, ...all, leaf: 1 },
  { ...blank, ...all, leaf: 0x8000_0001 },
  { ...blank, leaf: 0x8000_0008, eax: 0x3030, ecx: ALL },
  { ...blank, leaf: 0x8000_001d, subleaf: 3, flags: 1, eax: 0x0003_c163 },
  { ...blank, leaf: 0x8000_001e, ebx: ALL, ecx: ALL, eax: 9 },
];

function leaf(entries: readonly CpuidEntry[], number: number, subleaf = 0): CpuidEntry {
  const entry = entries.find((candidate) => candidate.leaf === number && candidate.subleaf === subleaf);
  if (!entry) throw new Error(`leaf 0x${number.toString(16)}.${subleaf} is missing`);
  return entry;
}

const four = { cpuCount: 4, apicId: 3, tscDeadlineTimer: true };
const one = { cpuCount: 1, apicId: 0, tscDeadlineTimer: false };

describe("CPUID of a guest", () => {
  it("numbers each processor, and says how many there are", () => {
    const { ebx, edx } = leaf(guestCpuid(intel, four), 1);
    expect(ebx).toBe(0x0304_08ff);
    expect(edx & (1 << 28)).not.toBe(0);
    expect(leaf(guestCpuid(intel, { ...four, cpuCount: 5 }), 1).ebx >>> 16).toBe(0x0308);
    expect(leaf(guestCpuid(intel, one), 1).edx & (1 << 28)).toBe(0);
  });

  it("says that it is a virtual machine, without nested virtualization or performance capabilities", () => {
    const { ecx } = leaf(guestCpuid(intel, four), 1);
    expect(ecx & (1 << 31)).not.toBe(0);
    expect(ecx & ((1 << 5) | (1 << 15))).toBe(0);
    expect(leaf(guestCpuid(amd, four), 0x8000_0001).ecx & (1 << 2)).toBe(0);
  });

  it("has the TSC-deadline timer exactly where KVM emulates it", () => {
    expect(leaf(guestCpuid(intel, four), 1).ecx & (1 << 24)).not.toBe(0);
    expect(leaf(guestCpuid(intel, one), 1).ecx & (1 << 24)).toBe(0);
  });

  it.each([
    ["1", 0, 0],
    ["2", 2, 0],
    ["3", 3, 3],
  ])("has caches of level %s shared by the right number of cores", (_, subleaf, sharingLessOne) => {
    const { eax } = leaf(guestCpuid(intel, four), 4, subleaf);
    expect((eax >>> 14) & 0xfff).toBe(sharingLessOne);
    expect(eax >>> 26).toBe(3);
    expect(eax & 0x3fff).toBe(leaf(intel, 4, subleaf).eax & 0x3fff);
  });

  it("leaves the end of the cache list alone", () => {
    expect(leaf(guestCpuid(intel, four), 4, 4).eax).toBe(0);
  });

  it.each([0xb, 0x1f])("describes threads and cores in leaf %i", (number) => {
    const entries = guestCpuid(intel, four);
    expect(leaf(entries, number, 0)).toMatchObject({ eax: 0, ebx: 1, ecx: 0x100, edx: 3, flags: 1 });
    expect(leaf(entries, number, 1)).toMatchObject({ eax: 2, ebx: 4, ecx: 0x201, edx: 3 });
    expect(leaf(entries, number, 2)).toMatchObject({ eax: 0, ebx: 0, ecx: 2, edx: 3 });
  });

  it("has no leaf beyond the highest that it says", () => {
    expect(guestCpuid(amd, four).some((entry) => entry.leaf === 0x1f)).toBe(false);
  });

  it("has no shadow stacks, which would be lost when it moves, and all else that is beside them", () => {
    expect(leaf(guestCpuid(intel, four), 7).ecx).toBe(0xffff_ff7f);
  });

  it("has no performance counters, no AMX and no turbo", () => {
    const entries = guestCpuid(intel, four);
    expect(entries.some((entry) => entry.leaf === 0xa)).toBe(false);
    expect(leaf(entries, 7).edx).toBe((ALL & ~((1 << 22) | (1 << 24) | (1 << 25))) >>> 0);
    expect(leaf(entries, 6)).toMatchObject({ eax: 0xffff_fffd, ecx: 0xffff_fff7 });
  });

  it("keeps what KVM says of itself", () => {
    expect(leaf(guestCpuid(intel, four), 0x4000_0001).eax).toBe(0x0100_7efb);
  });

  it("describes AMD processors in AMD's own leaves", () => {
    const entries = guestCpuid(amd, four);
    expect(leaf(entries, 0x8000_0008).ecx & 0xf0ff).toBe(0x2003);
    expect((leaf(entries, 0x8000_001d, 3).eax >>> 14) & 0xfff).toBe(3);
    expect(leaf(entries, 0x8000_001e)).toMatchObject({ eax: 3, ebx: 3, ecx: 0, edx: 0 });
    expect(leaf(entries, 0x8000_0001).ecx & ((1 << 22) | (1 << 1))).toBe((1 << 22) | (1 << 1));
    expect(leaf(guestCpuid(amd, one), 0x8000_0001).ecx & (1 << 1)).toBe(0);
  });

  it("fits 64 processors", () => {
    const entries = guestCpuid(intel, { cpuCount: 64, apicId: 63, tscDeadlineTimer: true });
    expect(leaf(entries, 1).ebx >>> 0).toBe(0x3f40_08ff);
    expect(leaf(entries, 4, 3).eax >>> 14).toBe((63 << 12) | 63);
    expect(leaf(entries, 0xb, 1)).toMatchObject({ eax: 6, ebx: 64 });
  });

  it("is encoded as KVM reads it", () => {
    const view = encodeCpuid(guestCpuid(intel, four));
    expect(view.getUint32(0, true)).toBe(guestCpuid(intel, four).length);
    expect(view.byteLength).toBe(8 + 40 * guestCpuid(intel, four).length);
    expect(view.getUint32(8 + 40 + 16, true)).toBe(0x0304_08ff);
  });
});
