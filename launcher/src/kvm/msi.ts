import { SysError } from "../sys/errors.ts";
import type { MsiSink } from "./interrupts.ts";
import { kvmIoctl } from "./kvm-ioctl.ts";
import { structs } from "./layouts.ts";
import { newStruct } from "./struct-view.ts";

/**
 * Delivers messages at once (KVM_SIGNAL_MSI), without interrupt routes: changing those waits for all vCPUs.
 * A message that no processor takes is dropped, as on a bus.
 */
export class KvmMsiSink implements MsiSink {
  readonly #vmFd: number;
  readonly #argument = newStruct("kvm_msi");

  constructor(vmFd: number) {
    this.#vmFd = vmFd;
  }

  signalMsi(addressLow: number, addressHigh: number, data: number): void {
    const { at } = structs.kvm_msi;
    this.#argument.setUint32(at.address_lo, addressLow, true);
    this.#argument.setUint32(at.address_hi, addressHigh, true);
    this.#argument.setUint32(at.data, data, true);
    try {
      kvmIoctl(this.#vmFd, "KVM_SIGNAL_MSI", this.#argument);
    } catch (error) {
      // EINVAL: the guest made up an address that is none of an interrupt. It only hurts itself.
      if (!(error instanceof SysError && error.code === "EINVAL")) throw error;
    }
  }
}
