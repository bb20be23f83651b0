import { judge, measure } from "../kvm/verdict.ts";

/** How QEMU runs a node VM; in both ways the node has /dev/kvm for VMs of its own. */
export type Acceleration = "kvm" | "tcg";

/** Hardware KVM (nested) where it is fit for Linux, emulation where it is not. */
export async function chooseAcceleration(): Promise<Acceleration> {
  return judge(await measure()).kvmFit ? "kvm" : "tcg";
}

/**
 * TCG emulates AMD's SVM, so that the node's kvm_amd works as on hardware. But it does not intercept XSETBV: KVM would not
 * know what a guest enabled, the guest's kernel would not save the AVX registers of its programs, and those that use them
 * would crash now and then. Without XSAVE nobody uses them.
 */
const emulatedProcessor = "max,+svm,+npt,-xsave,-avx,-avx2,-fma,-f16c,-pku";

/** QEMU's arguments. */
export function accelerationArguments(acceleration: Acceleration): string[] {
  return acceleration === "kvm"
    ? ["-accel", "kvm", "-cpu", "host"]
    : ["-accel", "tcg,thread=multi", "-cpu", emulatedProcessor];
}
