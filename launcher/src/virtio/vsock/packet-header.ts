import * as protocol from "./protocol.ts";

/** Header of one packet, in the bytes that the guest has it in. One object serves all packets of a queue. */
export class PacketHeader {
  readonly bytes = new Uint8Array(new ArrayBuffer(protocol.HEADER_BYTES));
  readonly #view = new DataView(this.bytes.buffer);

  /** Not exact from 2^53 on, where it is nobody's CID. */
  get sourceCid(): number {
    return this.#cid(protocol.HeaderOffset.sourceCid);
  }

  get destinationCid(): number {
    return this.#cid(protocol.HeaderOffset.destinationCid);
  }

  get sourcePort(): number {
    return this.#view.getUint32(protocol.HeaderOffset.sourcePort, true);
  }

  get destinationPort(): number {
    return this.#view.getUint32(protocol.HeaderOffset.destinationPort, true);
  }

  get lengthBytes(): number {
    return this.#view.getUint32(protocol.HeaderOffset.lengthBytes, true);
  }

  get type(): number {
    return this.#view.getUint16(protocol.HeaderOffset.type, true);
  }

  get operation(): number {
    return this.#view.getUint16(protocol.HeaderOffset.operation, true);
  }

  get flags(): number {
    return this.#view.getUint32(protocol.HeaderOffset.flags, true);
  }

  /** How much the sender keeps for its reader. */
  get bufferBytes(): number {
    return this.#view.getUint32(protocol.HeaderOffset.bufferBytes, true);
  }

  /** How much of what it received the sender has handed on, modulo 2^32. */
  get forwardedBytes(): number {
    return this.#view.getUint32(protocol.HeaderOffset.forwardedBytes, true);
  }

  /** Everything but the addresses: those of a stream. */
  put(operation: number, more: { readonly lengthBytes?: number; readonly flags?: number } = {}): void {
    this.#view.setUint32(protocol.HeaderOffset.lengthBytes, more.lengthBytes ?? 0, true);
    this.#view.setUint16(protocol.HeaderOffset.type, protocol.VIRTIO_VSOCK_TYPE_STREAM, true);
    this.#view.setUint16(protocol.HeaderOffset.operation, operation, true);
    this.#view.setUint32(protocol.HeaderOffset.flags, more.flags ?? 0, true);
    this.putCredit(0, 0);
  }

  putCredit(bufferBytes: number, forwardedBytes: number): void {
    this.#view.setUint32(protocol.HeaderOffset.bufferBytes, bufferBytes, true);
    this.#view.setUint32(protocol.HeaderOffset.forwardedBytes, forwardedBytes, true);
  }

  /** From the host to the guest. */
  address(guestCid: number, hostPort: number, guestPort: number): void {
    this.#putCid(protocol.HeaderOffset.sourceCid, protocol.HOST_CID);
    this.#putCid(protocol.HeaderOffset.destinationCid, guestCid);
    this.#view.setUint32(protocol.HeaderOffset.sourcePort, hostPort, true);
    this.#view.setUint32(protocol.HeaderOffset.destinationPort, guestPort, true);
  }

  #cid(offset: number): number {
    return this.#view.getUint32(offset, true) + this.#view.getUint32(offset + 4, true) * protocol.U32_LIMIT;
  }

  #putCid(offset: number, cid: number): void {
    this.#view.setUint32(offset, cid, true);
    this.#view.setUint32(offset + 4, 0, true);
  }
}
