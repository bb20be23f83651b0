import type { EventFd } from "../sys/eventfd.ts";

/** A wired interrupt line of the in-kernel interrupt controllers (GSI). Level: stays asserted until lowered. */
export interface IrqLine {
  setLevel(asserted: boolean): void;
}

/** Delivers message-signalled interrupts, as a PCI device's write of `data` to `address` would. */
export interface MsiSink {
  /** `addressLow` 0xfeexxxxx, `addressHigh` usually 0, `data` 32 bit; all as found in the MSI-X table. */
  signalMsi(addressLow: number, addressHigh: number, data: number): void;
}

/** A message as an MSI-X table holds it; see MsiSink. */
export interface MsiMessage {
  readonly addressLow: number;
  readonly addressHigh: number;
  readonly data: number;
}

/** Messages that KVM itself sends when somebody, the kernel say, signals an eventfd (KVM_IRQFD). */
export interface MsiWires {
  /** Null where no more can be had. The eventfd stays the caller's, and outlives the wire. */
  wire(event: EventFd): MsiWire | null;
}

export interface MsiWire extends Disposable {
  /**
   * What each signal sends from now on; with null none is sent, and signals stay in the eventfd. Those that it holds are sent,
   * as one, when there is a message.
   */
  set(message: MsiMessage | null): void;
}

/** Guest writes that do not leave KVM_RUN but ring in the event loop (KVM_IOEVENTFD). */
export interface Doorbells {
  /**
   * Calls `ring` (from the event loop, once for any number of writes) after guest writes to `address`.
   * `widthBytes` 0 matches any width. Dispose to stop; it is an error to assign one address twice.
   */
  assign(space: "mmio" | "pio", address: number, widthBytes: 0 | 1 | 2 | 4 | 8, ring: () => void): Disposable;

  /** The same, but the writes signal an eventfd that somebody else watches: the kernel, for vhost-net. */
  assignTo(space: "mmio" | "pio", address: number, widthBytes: 0 | 1 | 2 | 4 | 8, eventFd: number): Disposable;
}
