import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { coversCpuFeatures, formatCpuFeatures, parseCpuFeatures } from "../../../api/cpu-features.ts";
import { featuresOf, missingFeatures } from "./cpu-compatibility.ts";
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

describe("the features of a processor as text", () => {
  const vendor = entry(0, { ebx: 0x756e_6547, edx: 0x4965_6e69, ecx: 0x6c65_746e });

  it("names its maker", () => {
    expect(featuresOf([vendor]).vendor).toBe("GenuineIntel");
  });

  it("are covered exactly where nothing is missing", () => {
    // Few bits, so that both answers come up often.
    const word = fc.constantFrom(0, 1, 2, 3, 1 << 4, 1 << 27, 1 << 28, 1 << 31).map((bits) => bits >>> 0);
    const registers = fc.record({ eax: fc.nat(2), ebx: word, ecx: word, edx: word });
    const cpuid = fc
      .tuple(registers, registers, registers)
      .map(([one, seven, extended]) => [vendor, entry(1, one), entry(7, seven), entry(0x8000_0001, extended)]);
    fc.assert(
      fc.property(cpuid, cpuid, (guest, host) => {
        const asText = (processor: readonly CpuidEntry[]) =>
          parseCpuFeatures(formatCpuFeatures(featuresOf([...processor, entry(0x8000_0008, { ebx: 1 })])));
        const [hostText, guestText] = [asText(host), asText(guest)];
        if (hostText === undefined || guestText === undefined) throw new Error("unreadable");
        expect(coversCpuFeatures(hostText, guestText)).toBe(missingFeatures(guest, host).length === 0);
      }),
    );
  });
});
