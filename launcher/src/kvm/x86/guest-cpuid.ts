import { constants } from "../layouts.ts";
import type { CpuidEntry } from "./cpuid.ts";

/** The processor that a guest sees: one package, `cpuCount` cores of one thread, numbered by their local APICs. */
export interface CpuTopology {
  /** 1 to 64. */
  readonly cpuCount: number;
  /** Number of this processor's local APIC, from 0. */
  readonly apicId: number;
  /** The host's KVM emulates the TSC-deadline mode of the local APIC's timer. */
  readonly tscDeadlineTimer: boolean;
}

type Registers = Pick<CpuidEntry, "eax" | "ebx" | "ecx" | "edx">;
type Vendor = "intel" | "amd";

const CACHE_LINE_QUADWORDS = 8;
/** Types of topology levels in leaves 0xb and 0x1f. */
const LEVEL = { thread: 1, core: 2 } as const;
/** Leaves that are answered by subleaf 0 alone, zeroed: performance monitoring and AMX, which guests do not get. */
const ABSENT_LEAVES = [0x0a, 0x1d, 0x1e, 0x8000_0022];

/**
 * What CPUID answers on one vCPU: what the host supports, with the topology of the machine, and without features that
 * do not fit it (nested virtualization, performance counters, AMX, turbo, shadow stacks). Intel SDM volume 2A, CPUID; AMD APM volume 3,
 * appendix E.
 */
export function guestCpuid(supported: readonly CpuidEntry[], topology: CpuTopology): CpuidEntry[] {
  const vendor = vendorOf(supported);
  const kept = supported.filter(({ leaf }) => !isTopologyLeaf(leaf) && !ABSENT_LEAVES.includes(leaf));
  const adjusted = kept.map((entry) => ({ ...entry, ...unsigned(adjust(entry, vendor, topology)) }));
  const highest = kept.find(({ leaf }) => leaf === 0)?.eax ?? 0;
  const topologyLeaves = [0x0b, 0x1f].filter((leaf) => leaf <= highest);
  return [...adjusted, ...topologyLeaves.flatMap((leaf) => extendedTopology(leaf, topology))];
}

/** Width of the part of an APIC id that counts cores. */
function coreBits(cpuCount: number): number {
  return Math.ceil(Math.log2(cpuCount));
}

function isTopologyLeaf(leaf: number): boolean {
  return leaf === 0x0b || leaf === 0x1f;
}

function vendorOf(entries: readonly CpuidEntry[]): Vendor {
  const ebx = entries.find(({ leaf }) => leaf === 0)?.ebx;
  // "Auth"enticAMD and "Hygo"nGenuine; all others, Zhaoxin too, follow Intel.
  return ebx === 0x6874_7541 || ebx === 0x6f67_7948 ? "amd" : "intel";
}

function unsigned({ eax, ebx, ecx, edx }: Registers): Registers {
  return { eax: eax >>> 0, ebx: ebx >>> 0, ecx: ecx >>> 0, edx: edx >>> 0 };
}

function adjust(entry: CpuidEntry, vendor: Vendor, topology: CpuTopology): Registers {
  switch (entry.leaf) {
    case 0x1:
      return features(entry, topology);
    case 0x4:
      return vendor === "intel" ? caches(entry, topology) : entry;
    case 0x6:
      return { ...entry, eax: entry.eax & ~bit(1), ecx: entry.ecx & ~bit(3) };
    case 0x7:
      return entry.subleaf === 0 ? structuredFeatures(entry) : entry;
    case 0x8000_0001:
      return extendedFeatures(entry, vendor, topology);
    case 0x8000_0008:
      return vendor === "amd" ? amdCounts(entry, topology) : entry;
    case 0x8000_001d:
      return vendor === "amd" ? caches(entry, topology) : entry;
    case 0x8000_001e:
      return vendor === "amd" ? amdIdentifiers(topology) : entry;
    default:
      return entry;
  }
}

function bit(number: number): number {
  return 1 << number;
}

function features(entry: CpuidEntry, { apicId, cpuCount, tscDeadlineTimer }: CpuTopology): Registers {
  const vmx = bit(5);
  const perfCapabilities = bit(15);
  const tscDeadline = bit(24);
  const hypervisor = bit(31);
  const hyperThreading = bit(28);
  const brandIndex = entry.ebx & 0xff;
  return {
    eax: entry.eax,
    ebx: brandIndex | (CACHE_LINE_QUADWORDS << 8) | ((1 << coreBits(cpuCount)) << 16) | (apicId << 24),
    ecx: (entry.ecx & ~(vmx | perfCapabilities | tscDeadline)) | hypervisor | (tscDeadlineTimer ? tscDeadline : 0),
    // "More than one logical processor in the package", not threads.
    edx: cpuCount > 1 ? entry.edx | hyperThreading : entry.edx & ~hyperThreading,
  };
}

/** A shadow stack's pointer is in none of the state that a vCPU is saved by (KVM has it as a register of its own, since 6.18). */
function structuredFeatures(entry: CpuidEntry): Registers {
  const shadowStacks = bit(7);
  const amx = bit(22) | bit(24) | bit(25);
  return { ...entry, ecx: entry.ecx & ~shadowStacks, edx: entry.edx & ~amx };
}

/** Leaf 4 and its AMD twin: levels 1 and 2 are a core's own, from level 3 on all cores share. */
function caches(entry: CpuidEntry, { cpuCount }: CpuTopology): Registers {
  const type = entry.eax & 0x1f;
  if (type === 0) return entry;
  const level = (entry.eax >>> 5) & 7;
  const cores = 1 << coreBits(cpuCount);
  const sharing = level >= 3 ? cores : 1;
  const isAmd = entry.leaf === 0x8000_001d;
  return { ...entry, eax: (entry.eax & 0x3fff) | ((sharing - 1) << 14) | (isAmd ? 0 : (cores - 1) << 26) };
}

function extendedFeatures(entry: CpuidEntry, vendor: Vendor, { cpuCount }: CpuTopology): Registers {
  if (vendor === "intel") return entry;
  const cmpLegacy = bit(1);
  const svm = bit(2);
  const topologyExtensions = bit(22);
  const performanceCounters = bit(23) | bit(24) | bit(28);
  const ecx = (entry.ecx & ~(cmpLegacy | svm | performanceCounters)) | topologyExtensions;
  return { ...entry, ecx: cpuCount > 1 ? ecx | cmpLegacy : ecx };
}

function amdCounts(entry: CpuidEntry, { cpuCount }: CpuTopology): Registers {
  return { ...entry, ecx: (entry.ecx & ~0xf0ff) | (cpuCount - 1) | (coreBits(cpuCount) << 12) };
}

/** Extended APIC id; core id and one thread a core; node 0 of one. */
function amdIdentifiers({ apicId }: CpuTopology): Registers {
  return { eax: apicId, ebx: apicId, ecx: 0, edx: 0 };
}

/** Leaves 0xb and 0x1f: KVM gives subleaf 0 at most, and that of the host. */
function extendedTopology(leaf: number, { apicId, cpuCount }: CpuTopology): CpuidEntry[] {
  const level = (subleaf: number, type: number, shift: number, processors: number): CpuidEntry => ({
    leaf,
    subleaf,
    flags: constants.KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
    eax: shift,
    ebx: processors,
    ecx: (type << 8) | subleaf,
    edx: apicId,
  });
  return [level(0, LEVEL.thread, 0, 1), level(1, LEVEL.core, coreBits(cpuCount), cpuCount), level(2, 0, 0, 0)];
}
