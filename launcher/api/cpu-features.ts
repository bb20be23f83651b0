/**
 * What the processors of a guest have, or what a node's KVM gives to guests, as text: launchers say it of their guest, node
 * agents of their node, and the operator compares. Words of CPUID, since features outnumber names, and since software that
 * is older than a feature must compare it all the same.
 *
 *   GenuineIntel 1/0/ecx:fffa3203 1/0/edx:1fa9fbff 7/0/eax#2 ...
 *
 * `leaf/subleaf/register:word` are features, all of which the other side must have; `#number` is a level, which the other
 * side must reach. All hexadecimal, in the order of the launcher's table; what is 0 is left out.
 */
export interface CpuFeatures {
  /** As CPUID leaf 0 spells it. */
  readonly vendor: string;
  /** By "leaf/subleaf/register". */
  readonly words: ReadonlyMap<string, number>;
  readonly levels: ReadonlyMap<string, number>;
}

/** Longest text that is looked at: the launcher's table comes to some 400 characters. */
const MAX_TEXT_LENGTH = 4096;
const VENDOR = /^[\x21-\x7e]{1,12}$/;
const ENTRY = /^([0-9a-f]{1,8}\/[0-9a-f]{1,8}\/e[abcd]x)([:#])([0-9a-f]{1,8})$/;

export function formatCpuFeatures({ vendor, words, levels }: CpuFeatures): string {
  const entries = [
    ...[...words].map(([key, word]) => [key, ":", word] as const),
    ...[...levels].map(([key, level]) => [key, "#", level] as const),
  ].filter(([, , value]) => value !== 0);
  return [vendor, ...entries.map(([key, mark, value]) => `${key}${mark}${(value >>> 0).toString(16)}`)].join(" ");
}

/** Undefined where the text is not of the format. */
export function parseCpuFeatures(text: string): CpuFeatures | undefined {
  if (text.length > MAX_TEXT_LENGTH) return undefined;
  const [vendor = "", ...entries] = text.split(" ");
  const words = new Map<string, number>();
  const levels = new Map<string, number>();
  for (const entry of entries) {
    const [, key, mark, value] = ENTRY.exec(entry) ?? [];
    if (key === undefined || value === undefined) return undefined;
    (mark === "#" ? levels : words).set(key, Number.parseInt(value, 16));
  }
  return VENDOR.test(vendor) && words.size > 0 ? { vendor, words, levels } : undefined;
}

/** Whether a guest that has `guest` can go on where guests are given `host`. */
export function coversCpuFeatures(host: CpuFeatures, guest: CpuFeatures): boolean {
  return (
    host.vendor === guest.vendor &&
    [...guest.words].every(([key, word]) => (word & ~(host.words.get(key) ?? 0)) === 0) &&
    [...guest.levels].every(([key, level]) => level <= (host.levels.get(key) ?? 0))
  );
}

/** What each level of the x86-64 psABI (1.0, table 3.1) adds, as bits of words. Level 1 is every x86-64 processor. */
const LEVELS: readonly Readonly<Record<string, readonly number[]>>[] = [
  // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
  { "1/0/ecx": [0, 9, 13, 19, 20, 23], "80000001/0/ecx": [0] },
  // FMA, MOVBE, XSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
  { "1/0/ecx": [12, 22, 26, 28, 29], "7/0/ebx": [3, 5, 8], "80000001/0/ecx": [5] },
  // AVX512F, DQ, CD, BW, VL
  { "7/0/ebx": [16, 17, 28, 30, 31] },
];

/** Highest level of the x86-64 psABI that programs of a guest can count on: 1 to 4. */
export function x86Level({ words }: CpuFeatures): number {
  const lacking = LEVELS.findIndex((level) =>
    Object.entries(level).some(([key, bits]) => bits.some((bit) => (((words.get(key) ?? 0) >>> bit) & 1) === 0)),
  );
  return lacking < 0 ? LEVELS.length + 1 : lacking + 1;
}
