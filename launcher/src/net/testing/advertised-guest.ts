const IPV6_SOURCE = 22;
const MESSAGE = 54;
const OPTIONS = MESSAGE + 16;
const INFINITE = 0xffffffff;

/** A host that believes router advertisements for as long as they say (RFC 4861, 4191 and 8106), and asks for none. */
export class AdvertisedGuest {
  /** The second from which on it is no longer true, by what it is. */
  readonly #ends = new Map<string, number>();

  hear(frame: Uint8Array, nowSeconds: number): void {
    const bytes = Buffer.from(frame);
    if (bytes[MESSAGE] !== 134) throw new Error(`ICMPv6 type ${bytes[MESSAGE]} is no router advertisement`);
    const note = (what: string, seconds: number) =>
      void this.#ends.set(what, seconds === INFINITE ? Number.POSITIVE_INFINITY : nowSeconds + seconds);
    note(`default via ${bytes.toString("hex", IPV6_SOURCE, IPV6_SOURCE + 16)}`, bytes.readUInt16BE(MESSAGE + 6));
    for (let at = OPTIONS; at < bytes.length; at += bytes.readUInt8(at + 1) * 8) {
      const option = bytes.subarray(at, at + bytes.readUInt8(at + 1) * 8);
      const length = option[2];
      switch (option[0]) {
        case 3:
          note(`on-link ${option.toString("hex", 16, 32)}/${length}`, option.readUInt32BE(4));
          break;
        case 24:
          note(`route ${option.toString("hex", 8, 24)}/${length}`, option.readUInt32BE(4));
          break;
        case 25:
          for (let i = 8; i < option.length; i += 16)
            note(`dns ${option.toString("hex", i, i + 16)}`, option.readUInt32BE(4));
          break;
        case 31:
          note(`search ${option.toString("latin1", 8).replace(/[^a-z]+/g, ".")}`, option.readUInt32BE(4));
          break;
      }
    }
  }

  /** What is true by what it heard. */
  believes(nowSeconds: number): string[] {
    return [...this.#ends].filter(([, end]) => nowSeconds < end).map(([what]) => what);
  }
}
