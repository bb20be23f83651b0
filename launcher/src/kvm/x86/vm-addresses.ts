import { kvmIoctl } from "../kvm-ioctl.ts";
import { setU64 } from "../struct-view.ts";

/**
 * Guest-physical pages that KVM on Intel takes for itself: three for a task state segment from `tssGpa`, one for an
 * identity map at `identityMapGpa`. Nothing else may be there. Before the first vCPU.
 */
export function setKvmPages(vmFd: number, tssGpa: number, identityMapGpa: number): void {
  const address = new DataView(new ArrayBuffer(8));
  setU64(address, 0, identityMapGpa);
  kvmIoctl(vmFd, "KVM_SET_IDENTITY_MAP_ADDR", address);
  kvmIoctl(vmFd, "KVM_SET_TSS_ADDR", tssGpa);
}
