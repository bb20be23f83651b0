import type { IrqLine } from "./interrupts.ts";
import { kvmIoctl } from "./kvm-ioctl.ts";
import { structs } from "./layouts.ts";
import { newStruct } from "./struct-view.ts";

/** The line of a GSI of the in-kernel interrupt controllers (KVM_IRQ_LINE); only changes reach the kernel. */
export class KvmIrqLine implements IrqLine {
  readonly #vmFd: number;
  readonly #argument = newStruct("kvm_irq_level");
  #asserted = false;

  constructor(vmFd: number, gsi: number) {
    this.#vmFd = vmFd;
    this.#argument.setUint32(structs.kvm_irq_level.at.irq, gsi, true);
  }

  setLevel(asserted: boolean): void {
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    this.#argument.setUint32(structs.kvm_irq_level.at.level, asserted ? 1 : 0, true);
    kvmIoctl(this.#vmFd, "KVM_IRQ_LINE", this.#argument);
  }
}
