import { OwnedFd } from "../sys/fd.ts";
import { kvmIoctl } from "./kvm-ioctl.ts";
import { RunPage } from "./run-page.ts";

/** One virtual processor: its descriptor and its run page. What it holds is set by the functions of kvm/x86. */
export class Vcpu implements Disposable {
  /** Also the number of its local APIC. */
  readonly index: number;
  readonly run: RunPage;
  readonly #owned: OwnedFd;

  /** Throws SysError. */
  constructor(vmFd: number, index: number, runPageBytes: number) {
    using owned = new OwnedFd(kvmIoctl(vmFd, "KVM_CREATE_VCPU", index));
    this.run = new RunPage(owned.fd, runPageBytes);
    this.#owned = new OwnedFd(owned.take());
    this.index = index;
  }

  get fd(): number {
    return this.#owned.fd;
  }

  /** Its thread is joined by then. */
  [Symbol.dispose](): void {
    this.run[Symbol.dispose]();
    this.#owned[Symbol.dispose]();
  }
}
