import { judge, measure } from "../kvm/verdict.ts";

/** How QEMU runs a node VM; in both ways the node has /dev/kvm for VMs of its own. */
export type Acceleration = "kvm" | "tcg";

/** Hardware KVM (nested) where it is fit for Linux, emulation where it is not. */
export async function chooseAcceleration(): Promise<Acceleration> {
  return judge(await measure()).kvmFit ? "kvm" : "tcg";
}

/** QEMU's arguments. TCG emulates AMD's SVM, so that the node's kvm_amd works as on hardware. */
export function accelerationArguments(acceleration: Acceleration): string[] {
  return acceleration === "kvm"
    ? ["-accel", "kvm", "-cpu", "host"]
    : ["-accel", "tcg,thread=multi", "-cpu", "max,+svm,+npt"];
}
