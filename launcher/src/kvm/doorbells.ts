import { EventFd } from "../sys/eventfd.ts";
import { watchFd } from "../sys/fd-watch.ts";
import type { Doorbells } from "./interrupts.ts";
import { kvmIoctl } from "./kvm-ioctl.ts";
import { constants, structs } from "./layouts.ts";
import { newStruct, setU64 } from "./struct-view.ts";

const { at } = structs.kvm_ioeventfd;

/** Doorbells by KVM_IOEVENTFD: one eventfd each, watched by the event loop. */
export class KvmDoorbells implements Doorbells {
  readonly #vmFd: number;

  constructor(vmFd: number) {
    this.#vmFd = vmFd;
  }

  assign(space: "mmio" | "pio", address: number, widthBytes: 0 | 1 | 2 | 4 | 8, ring: () => void): Disposable {
    using stack = new DisposableStack();
    const event = stack.use(new EventFd());
    stack.use(this.assignTo(space, address, widthBytes, event.fd));
    stack.use(
      watchFd(event.fd, { readable: true }, () => {
        if (event.drain()) ring();
      }),
    );
    return stack.move();
  }

  assignTo(space: "mmio" | "pio", address: number, widthBytes: 0 | 1 | 2 | 4 | 8, eventFd: number): Disposable {
    const argument = newStruct("kvm_ioeventfd");
    const flags = space === "pio" ? constants.KVM_IOEVENTFD_FLAG_PIO : 0;
    setU64(argument, at.addr, address);
    argument.setUint32(at.len, widthBytes, true);
    argument.setInt32(at.fd, eventFd, true);
    argument.setUint32(at.flags, flags, true);
    kvmIoctl(this.#vmFd, "KVM_IOEVENTFD", argument);
    return {
      [Symbol.dispose]: () => {
        argument.setUint32(at.flags, flags | constants.KVM_IOEVENTFD_FLAG_DEASSIGN, true);
        kvmIoctl(this.#vmFd, "KVM_IOEVENTFD", argument);
      },
    };
  }
}
