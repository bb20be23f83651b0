import { SysError } from "../../sys/errors.ts";
import { kvmIoctl } from "../kvm-ioctl.ts";
import { structs } from "../layouts.ts";
import { newStruct } from "../struct-view.ts";

/** A model-specific register and its 64 bits. */
export interface Msr {
  readonly index: number;
  readonly value: bigint;
}

/** Numbers of the registers that are named here (Intel SDM volume 4). */
export const msrIndexes = {
  IA32_TSC: 0x10,
  IA32_APIC_BASE: 0x1b,
  IA32_TSC_ADJUST: 0x3b,
  IA32_MTRRCAP: 0xfe,
  IA32_SYSENTER_CS: 0x174,
  IA32_SYSENTER_ESP: 0x175,
  IA32_SYSENTER_EIP: 0x176,
  IA32_MCG_CAP: 0x179,
  IA32_MISC_ENABLE: 0x1a0,
  IA32_MTRR_DEF_TYPE: 0x2ff,
  IA32_TSC_DEADLINE: 0x6e0,
  STAR: 0xc000_0081,
  LSTAR: 0xc000_0082,
  CSTAR: 0xc000_0083,
  SYSCALL_MASK: 0xc000_0084,
  KERNEL_GS_BASE: 0xc000_0102,
} as const;

const FAST_STRINGS = 1n;
const MTRR_ENABLE = 1n << 11n;
const MTRR_WRITE_BACK = 6n;

/**
 * What firmware leaves behind for a kernel. Without the memory type (and the MTRR bit of CPUID), guests map all of
 * their memory uncached.
 */
export const bootMsrs: readonly Msr[] = [
  { index: msrIndexes.IA32_SYSENTER_CS, value: 0n },
  { index: msrIndexes.IA32_SYSENTER_ESP, value: 0n },
  { index: msrIndexes.IA32_SYSENTER_EIP, value: 0n },
  { index: msrIndexes.STAR, value: 0n },
  { index: msrIndexes.LSTAR, value: 0n },
  { index: msrIndexes.CSTAR, value: 0n },
  { index: msrIndexes.SYSCALL_MASK, value: 0n },
  { index: msrIndexes.KERNEL_GS_BASE, value: 0n },
  { index: msrIndexes.IA32_TSC, value: 0n },
  { index: msrIndexes.IA32_MISC_ENABLE, value: FAST_STRINGS },
  { index: msrIndexes.IA32_MTRR_DEF_TYPE, value: MTRR_ENABLE | MTRR_WRITE_BACK },
];

/** KVM takes fewer than KVM_MAX_MSR_ENTRIES (256) in one call. */
const CHUNK = 255;
const HEADER_BYTES = structs.kvm_msrs.at.entries;
const ENTRY_BYTES = structs.kvm_msr_entry.sizeBytes;
const E2BIG = 7;

/** Registers that this host's KVM says are to be saved and restored (KVM_GET_MSR_INDEX_LIST): not all, see savedMsrs. */
export function msrIndexList(kvmFd: number): number[] {
  for (let room = 512; ; room *= 2) {
    const view = newStruct("kvm_msr_list", room * 4);
    view.setUint32(0, room, true);
    try {
      kvmIoctl(kvmFd, "KVM_GET_MSR_INDEX_LIST", view);
    } catch (error) {
      if (error instanceof SysError && error.errno === E2BIG) continue;
      throw error;
    }
    const count = view.getUint32(0, true);
    return Array.from({ length: count }, (_, i) => view.getUint32(structs.kvm_msr_list.at.indices + i * 4, true));
  }
}

/** Reads registers; those that the vCPU does not have (its CPUID does not tell of them) are left out. */
export function getMsrs(vcpuFd: number, indexes: readonly number[]): Msr[] {
  const found: Msr[] = [];
  for (let start = 0; start < indexes.length; ) {
    const chunk = indexes.slice(start, start + CHUNK).map((index) => ({ index, value: 0n }));
    const view = encode(chunk);
    const count = kvmIoctl(vcpuFd, "KVM_GET_MSRS", view);
    for (let i = 0; i < count; i++)
      found.push({ index: chunk[i]?.index ?? 0, value: view.getBigUint64(valueOffset(i), true) });
    start += count < chunk.length ? count + 1 : count;
  }
  return found;
}

/** Writes registers in this order; answers the numbers of those that the vCPU refused. */
export function setMsrs(vcpuFd: number, msrs: readonly Msr[]): number[] {
  const refused: number[] = [];
  for (let start = 0; start < msrs.length; ) {
    const chunk = msrs.slice(start, start + CHUNK);
    const count = kvmIoctl(vcpuFd, "KVM_SET_MSRS", encode(chunk));
    start += count;
    if (count < chunk.length) {
      refused.push(chunk[count]?.index ?? 0);
      start++;
    }
  }
  return refused;
}

function encode(msrs: readonly Msr[]): DataView {
  const view = newStruct("kvm_msrs", msrs.length * ENTRY_BYTES);
  view.setUint32(structs.kvm_msrs.at.nmsrs, msrs.length, true);
  msrs.forEach(({ index, value }, i) => {
    view.setUint32(HEADER_BYTES + i * ENTRY_BYTES + structs.kvm_msr_entry.at.index, index, true);
    view.setBigUint64(valueOffset(i), value, true);
  });
  return view;
}

function valueOffset(entry: number): number {
  return HEADER_BYTES + entry * ENTRY_BYTES + structs.kvm_msr_entry.at.data;
}
