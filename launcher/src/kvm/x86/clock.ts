import { SysError } from "../../sys/errors.ts";
import { kvmIoctl } from "../kvm-ioctl.ts";
import { structs } from "../layouts.ts";
import { newStruct } from "../struct-view.ts";

/**
 * Tells the guest that it was stopped: its clock went on, and its watchdogs must not take that for a hang.
 * Before a processor runs again after a pause; nothing where the guest does not use KVM's clock.
 */
export function notePause(vcpuFd: number): void {
  try {
    kvmIoctl(vcpuFd, "KVM_KVMCLOCK_CTRL");
  } catch (error) {
    if (!(error instanceof SysError && error.code === "EINVAL")) throw error;
  }
}

/** The machine's clock (kvmclock), in nanoseconds; it goes on while the processors do not run. */
export function getClock(vmFd: number): bigint {
  const data = newStruct("kvm_clock_data");
  kvmIoctl(vmFd, "KVM_GET_CLOCK", data);
  return data.getBigUint64(structs.kvm_clock_data.at.clock, true);
}

export function setClock(vmFd: number, nanoseconds: bigint): void {
  const data = newStruct("kvm_clock_data");
  data.setBigUint64(structs.kvm_clock_data.at.clock, nanoseconds, true);
  kvmIoctl(vmFd, "KVM_SET_CLOCK", data);
}
