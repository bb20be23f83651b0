import { SysError } from "../../sys/errors.ts";
import { kvmIoctl } from "../kvm-ioctl.ts";
import { structs } from "../layouts.ts";
import { newStruct } from "../struct-view.ts";

/** One answer of the CPUID instruction; the registers are unsigned 32-bit numbers. */
export interface CpuidEntry {
  /** eax as asked: "leaf". */
  readonly leaf: number;
  /** ecx as asked; only looked at where `flags` has KVM_CPUID_FLAG_SIGNIFCANT_INDEX. */
  readonly subleaf: number;
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

const entryAt = structs.kvm_cpuid_entry2.at;
const ENTRY_BYTES = structs.kvm_cpuid_entry2.sizeBytes;
const HEADER_BYTES = structs.kvm_cpuid2.at.entries;
/** KVM_MAX_CPUID_ENTRIES of newer kernels; older ones have 80. */
export const CPUID_ENTRIES_LIMIT = 256;
const E2BIG = 7;

/** What this host can give a guest (KVM_GET_SUPPORTED_CPUID). */
export function supportedCpuid(kvmFd: number): CpuidEntry[] {
  return decodeCpuid(readCpuid(kvmFd, "KVM_GET_SUPPORTED_CPUID"));
}

/** What CPUID answers on a vCPU. */
export function getCpuid(vcpuFd: number): CpuidEntry[] {
  return decodeCpuid(readCpuid(vcpuFd, "KVM_GET_CPUID2"));
}

/** The same as `struct kvm_cpuid2`, for `decodeCpuid`. */
export function rawCpuid(vcpuFd: number): DataView {
  const view = readCpuid(vcpuFd, "KVM_GET_CPUID2");
  const count = view.getUint32(structs.kvm_cpuid2.at.nent, true);
  return new DataView(view.buffer.slice(view.byteOffset, view.byteOffset + HEADER_BYTES + count * ENTRY_BYTES));
}

function readCpuid(fd: number, request: "KVM_GET_SUPPORTED_CPUID" | "KVM_GET_CPUID2"): DataView {
  for (let room = CPUID_ENTRIES_LIMIT; ; room *= 2) {
    const view = newStruct("kvm_cpuid2", room * ENTRY_BYTES);
    view.setUint32(structs.kvm_cpuid2.at.nent, room, true);
    try {
      kvmIoctl(fd, request, view);
    } catch (error) {
      if (error instanceof SysError && error.errno === E2BIG) continue;
      throw error;
    }
    return view;
  }
}

/** The entries of `struct kvm_cpuid2`. */
export function decodeCpuid(view: DataView): CpuidEntry[] {
  const count = view.getUint32(structs.kvm_cpuid2.at.nent, true);
  return Array.from({ length: count }, (_, i) => {
    const u32 = (field: keyof typeof entryAt) => view.getUint32(HEADER_BYTES + i * ENTRY_BYTES + entryAt[field], true);
    return {
      leaf: u32("function"),
      subleaf: u32("index"),
      flags: u32("flags"),
      eax: u32("eax"),
      ebx: u32("ebx"),
      ecx: u32("ecx"),
      edx: u32("edx"),
    };
  });
}

/** `struct kvm_cpuid2` of the entries. */
export function encodeCpuid(entries: readonly CpuidEntry[]): DataView {
  const view = newStruct("kvm_cpuid2", entries.length * ENTRY_BYTES);
  view.setUint32(structs.kvm_cpuid2.at.nent, entries.length, true);
  entries.forEach((entry, i) => {
    const put = (field: keyof typeof entryAt, value: number) =>
      view.setUint32(HEADER_BYTES + i * ENTRY_BYTES + entryAt[field], value, true);
    put("function", entry.leaf);
    put("index", entry.subleaf);
    put("flags", entry.flags);
    put("eax", entry.eax);
    put("ebx", entry.ebx);
    put("ecx", entry.ecx);
    put("edx", entry.edx);
  });
  return view;
}

/** What CPUID answers on a vCPU. Before its MSRs are read or written: KVM hides those that CPUID does not tell of. */
export function setCpuid(vcpuFd: number, entries: readonly CpuidEntry[]): void {
  kvmIoctl(vcpuFd, "KVM_SET_CPUID2", encodeCpuid(entries));
}
