import { SysError } from "../../sys/errors.ts";
import { kvmIoctl } from "../kvm-ioctl.ts";

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
