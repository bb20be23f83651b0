import type { CpuFeatures } from "../../../api/cpu-features.ts";
import type { CpuidEntry } from "./cpuid.ts";

type RegisterName = "eax" | "ebx" | "ecx" | "edx";

interface Rule {
  readonly leaf: number;
  readonly subleaf: number;
  readonly register: RegisterName;
  /** Features: each bit of the guest must be one of the host. Level: the guest's number is at most the host's. */
  readonly kind: "features" | "level";
}

const features = (leaf: number, subleaf: number, ...registers: RegisterName[]): Rule[] =>
  registers.map((register) => ({ leaf, subleaf, register, kind: "features" }));
const level = (leaf: number, subleaf: number): Rule => ({ leaf, subleaf, register: "eax", kind: "level" });

/** What a guest may have based its code on. Topology, caches and names are not among it. */
const RULES: readonly Rule[] = [
  ...features(0x1, 0, "ecx", "edx"),
  level(0x7, 0),
  ...features(0x7, 0, "ebx", "ecx", "edx"),
  ...features(0x7, 1, "eax", "ecx", "edx"),
  ...features(0x7, 2, "edx"),
  ...features(0xd, 0, "eax", "edx"),
  ...features(0xd, 1, "eax", "ecx", "edx"),
  ...features(0x8000_0001, 0, "ecx", "edx"),
  ...features(0x8000_0007, 0, "edx"),
  ...features(0x8000_0008, 0, "ebx"),
  ...features(0x4000_0001, 0, "eax", "edx"),
];

/** Bits that say how things are right now, or are the machine's own: OSXSAVE, OSPKE and more than one processor (twice). */
const NOT_FEATURES: Readonly<Record<string, number>> = {
  "1/0/ecx": 1 << 27,
  "1/0/edx": 1 << 28,
  "7/0/ecx": 1 << 4,
  "80000001/0/ecx": 1 << 1,
};

/** Names of bits that differ between processors that are in use, by leaf/subleaf/register. */
const NAMES: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  "1/0/ecx": {
    12: "fma",
    19: "sse4_1",
    20: "sse4_2",
    22: "movbe",
    23: "popcnt",
    25: "aes",
    26: "xsave",
    28: "avx",
    29: "f16c",
    30: "rdrand",
  },
  "7/0/ebx": {
    3: "bmi1",
    5: "avx2",
    8: "bmi2",
    16: "avx512f",
    17: "avx512dq",
    18: "rdseed",
    19: "adx",
    28: "avx512cd",
    29: "sha_ni",
    30: "avx512bw",
    31: "avx512vl",
  },
  "7/0/ecx": {
    1: "avx512vbmi",
    3: "pku",
    8: "gfni",
    9: "vaes",
    10: "vpclmulqdq",
    11: "avx512_vnni",
    16: "la57",
    22: "rdpid",
  },
  "7/0/edx": { 4: "fsrm", 23: "avx512_fp16", 26: "spec_ctrl", 27: "stibp", 29: "arch_capabilities", 31: "ssbd" },
  "7/1/eax": { 4: "avx_vnni", 5: "avx512_bf16" },
};

/**
 * What the processor of a guest has and this host's has not, by Linux's names where they are known; empty when the guest
 * can go on here. `guest` and `host` are of the same processor of the machine.
 */
export function missingFeatures(guest: readonly CpuidEntry[], host: readonly CpuidEntry[]): string[] {
  return RULES.flatMap((rule) => {
    const wanted = registerOf(guest, rule);
    const offered = registerOf(host, rule);
    if (rule.kind === "level") return wanted <= offered ? [] : [`cpuid 0x${rule.leaf.toString(16)} up to ${wanted}`];
    const key = `${rule.leaf.toString(16)}/${rule.subleaf}/${rule.register}`;
    const missing = wanted & ~offered & ~(NOT_FEATURES[key] ?? 0);
    return bitsOf(missing).map((bit) => NAMES[key]?.[bit] ?? `cpuid ${key} bit ${bit}`);
  });
}

/** The same rules' words of one processor, for those who compare where no KVM is: launcher/api/cpu-features.ts. */
export function featuresOf(cpuid: readonly CpuidEntry[]): CpuFeatures {
  const wordOf = (rule: Rule) => {
    const key = `${rule.leaf.toString(16)}/${rule.subleaf}/${rule.register}`;
    return [key, (registerOf(cpuid, rule) & ~(NOT_FEATURES[key] ?? 0)) >>> 0] as const;
  };
  const ofKind = (kind: Rule["kind"]) => new Map(RULES.filter((rule) => rule.kind === kind).map(wordOf));
  return { vendor: vendorOf(cpuid), words: ofKind("features"), levels: ofKind("level") };
}

/** Twelve characters of leaf 0, in the order of Intel's SDM; spaces, which none of the known ones have, as dots. */
function vendorOf(cpuid: readonly CpuidEntry[]): string {
  const words = (["ebx", "edx", "ecx"] as const).map((register) =>
    registerOf(cpuid, { leaf: 0, subleaf: 0, register, kind: "features" }),
  );
  const characters = words.flatMap((word) => [0, 8, 16, 24].map((shift) => (word >>> shift) & 0xff));
  return characters.map((code) => (code > 0x20 && code < 0x7f ? String.fromCharCode(code) : ".")).join("");
}

function registerOf(entries: readonly CpuidEntry[], { leaf, subleaf, register }: Rule): number {
  return entries.find((entry) => entry.leaf === leaf && entry.subleaf === subleaf)?.[register] ?? 0;
}

function bitsOf(word: number): number[] {
  return Array.from({ length: 32 }, (_, bit) => bit).filter((bit) => ((word >>> bit) & 1) === 1);
}
