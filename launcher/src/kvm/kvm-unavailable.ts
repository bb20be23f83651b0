/** This host cannot run machines: /dev/kvm is missing or refused, or the kernel is too old. */
export class KvmUnavailable extends Error {
  /** A sentence that ends with the way out. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "KvmUnavailable";
  }
}
