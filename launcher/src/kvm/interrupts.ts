/** A wired interrupt line of the in-kernel interrupt controllers (GSI). Level: stays asserted until lowered. */
export interface IrqLine {
  setLevel(asserted: boolean): void;
}

/** Delivers message-signalled interrupts, as a PCI device's write of `data` to `address` would. */
export interface MsiSink {
  /** `addressLow` 0xfeexxxxx, `addressHigh` usually 0, `data` 32 bit; all as found in the MSI-X table. */
  signalMsi(addressLow: number, addressHigh: number, data: number): void;
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
