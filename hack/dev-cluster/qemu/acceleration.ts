import { judge, measure } from "../kvm/verdict.ts";

/** How QEMU runs a node VM; in both ways the node has /dev/kvm for VMs of its own. */
export type Acceleration = "kvm" | "tcg";

/** Hardware KVM (nested) where it is fit for Linux, emulation where it is not. */
export async function chooseAcceleration(): Promise<Acceleration> {
  return judge(await measure()).kvmFit ? "kvm" : "tcg";
}

/**
 * TCG emulates AMD's SVM, so that the node's kvm_amd works as on hardware. But guests in such a node warn of an "XSAVE
 * consistency problem", under QEMU as under our launcher, and their programs crash now and then: probably KVM does not
 * get to see a guest's XSETBV, and the guest's kernel does not save all registers. Without XSAVE neither was seen again.
 */
const emulatedProcessor = "max,+svm,+npt,-xsave,-avx,-avx2,-fma,-f16c,-pku";

/** QEMU's arguments. */
export function accelerationArguments(acceleration: Acceleration): string[] {
  return acceleration === "kvm"
    ? ["-accel", "kvm", "-cpu", "host"]
    : ["-accel", "tcg,thread=multi", "-cpu", emulatedProcessor];
}
