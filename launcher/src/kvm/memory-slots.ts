import { kvmIoctl } from "./kvm-ioctl.ts";
import { constants, structs } from "./layouts.ts";
import { newStruct, setU64 } from "./struct-view.ts";

export interface MemorySlot {
  /** Number of the slot, from 0. */
  readonly slot: number;
  /** Guest-physical; a multiple of 4 KiB, as the two below. */
  readonly gpa: number;
  /** 0 takes the slot away. */
  readonly sizeBytes: number;
  readonly hostAddress: number;
  /** Logs pages that vCPUs write, for `getDirtyLog`. */
  readonly logDirtyPages?: boolean;
}

const region = structs.kvm_userspace_memory_region.at;

/** Makes memory of this process a run of guest RAM, or changes whether a slot is logged. Throws SysError. */
export function setMemorySlot(vmFd: number, slot: MemorySlot): void {
  const argument = newStruct("kvm_userspace_memory_region");
  argument.setUint32(region.slot, slot.slot, true);
  argument.setUint32(region.flags, slot.logDirtyPages ? constants.KVM_MEM_LOG_DIRTY_PAGES : 0, true);
  setU64(argument, region.guest_phys_addr, slot.gpa);
  setU64(argument, region.memory_size, slot.sizeBytes);
  setU64(argument, region.userspace_addr, slot.hostAddress);
  kvmIoctl(vmFd, "KVM_SET_USER_MEMORY_REGION", argument);
}
