import type { CpuFeatures } from "../../../api/cpu-features.ts";
import { OwnedFd } from "../../sys/fd.ts";
import { kvmIoctl } from "../kvm-ioctl.ts";
import { KvmSystem } from "../system.ts";
import { featuresOf } from "./cpu-compatibility.ts";
import { getCpuid, setCpuid, supportedCpuid } from "./cpuid.ts";
import { guestCpuid } from "./guest-cpuid.ts";
import { createInterruptControllers } from "./irqchip.ts";

/**
 * What guests of this host are given, by /dev/kvm: asked of a processor that never runs, made as a launcher makes its own,
 * since some KVMs answer more than they were told to offer. Throws KvmUnavailable or SysError.
 */
export function hostFeatures(kvmFd: number): CpuFeatures {
  const system = new KvmSystem(kvmFd);
  using vm = system.createVm();
  createInterruptControllers(vm.fd);
  using vcpu = new OwnedFd(kvmIoctl(vm.fd, "KVM_CREATE_VCPU", 0));
  const tscDeadlineTimer = system.capability("KVM_CAP_TSC_DEADLINE_TIMER") > 0;
  setCpuid(vcpu.fd, guestCpuid(supportedCpuid(kvmFd), { cpuCount: 1, apicId: 0, tscDeadlineTimer }));
  return featuresOf(getCpuid(vcpu.fd));
}
