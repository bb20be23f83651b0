import type { Socket } from "node:net";
import type { PacketHeader } from "./packet-header.ts";
import * as protocol from "./protocol.ts";

/** What is kept of a guest's bytes that the host's side does not take yet: its window (section 5.10.6.3). */
export const WINDOW_BYTES = 128 * 1024;

export interface ConnectionEvents {
  /** It has a packet for the guest. */
  ready(connection: Connection): void;
  /** Guest and host agreed on it. */
  opened(connection: Connection): void;
  /** It is over and takes no more packets; with `resets` the guest is to be told. */
  ended(connection: Connection, resets: boolean): void;
}

export interface ConnectionParts {
  readonly hostPort: number;
  readonly guestPort: number;
  /** Of the host's side, with half-open connections allowed; the connection's from now on. */
  readonly socket: Socket;
  readonly events: ConnectionEvents;
}

/**
 *   asking:  the host's side wants the guest to take it: REQUEST -> RESPONSE -> open, or RST
 *   dialing: the guest asked, and the host's socket is being connected -> RESPONSE -> open, or RST
 *   open:    bytes both ways; each side ends its own direction by SHUTDOWN, and both ended is RST
 */
type State = "asking" | "dialing" | "open" | "ended";

/** One stream between a port of the guest and a socket of the host. It knows packets, and no queue. */
export class Connection {
  readonly hostPort: number;
  readonly guestPort: number;
  readonly #socket: Socket;
  readonly #events: ConnectionEvents;
  /** Who asked for it. */
  readonly origin: "guest" | "host";
  #state: State;
  #wasOpened = false;

  // What the guest is to be told, each once.
  #owesRequest: boolean;
  #owesResponse = false;
  #owesCredit = false;
  #owesShutdown = 0;
  /** The guest was asked for its credit since it last told of it. */
  #askedCredit = false;
  #owesCreditRequest = false;

  /** SHUTDOWN flags of the guest. */
  #guestShutdown = 0;
  // The guest's window, and how far we are in it; the counters are modulo 2^32.
  #guestBufferBytes = 0;
  #guestForwarded = 0;
  #sent = 0;
  // How far the guest is in ours.
  #received = 0;
  #forwardedTold = 0;
  /** Bytes before the guest's own that the host's side has not taken yet. */
  #greetingBytes = 0;

  constructor(parts: ConnectionParts, origin: "guest" | "host") {
    this.hostPort = parts.hostPort;
    this.guestPort = parts.guestPort;
    this.#socket = parts.socket;
    this.#events = parts.events;
    this.origin = origin;
    this.#state = origin === "guest" ? "dialing" : "asking";
    this.#owesRequest = origin === "host";
    if (origin === "guest") this.#socket.once("connect", () => this.#onDialed());
    this.#socket.on("readable", () => this.#onReadable());
    this.#socket.once("end", () => this.#onHostEnd());
    this.#socket.once("finish", () => this.#closeWhenDone());
    // "close" follows, which says all that matters.
    this.#socket.on("error", () => {});
    this.#socket.once("close", () => this.#end(true));
  }

  /** Guest and host agreed on it at some time. */
  get wasOpened(): boolean {
    return this.#wasOpened;
  }

  /** Whether `fill` has something for the guest. */
  get hasPacket(): boolean {
    if (this.#state === "asking") return this.#owesRequest;
    if (this.#state !== "open") return false;
    const owes = this.#owesResponse || this.#owesCredit || this.#owesCreditRequest || this.#owesShutdown !== 0;
    return owes || this.#sendableBytes > 0;
  }

  /**
   * Puts the next packet into `header`, addresses apart, where `hasPacket`; answers its bytes, at most `roomBytes` (at
   * least one).
   */
  fill(header: PacketHeader, roomBytes: number): Uint8Array | null {
    const payload = this.#putNext(header, roomBytes);
    this.#forwardedTold = this.#forwarded;
    this.#owesCredit = false;
    header.putCredit(WINDOW_BYTES, this.#forwardedTold);
    return payload;
  }

  #putNext(header: PacketHeader, roomBytes: number): Uint8Array | null {
    if (this.#owesRequest) {
      this.#owesRequest = false;
      header.put(protocol.VIRTIO_VSOCK_OP_REQUEST);
    } else if (this.#owesResponse) {
      this.#owesResponse = false;
      header.put(protocol.VIRTIO_VSOCK_OP_RESPONSE);
    } else if (this.#sendableBytes > 0) return this.#putData(header, roomBytes);
    else if (this.#owesShutdown !== 0) {
      header.put(protocol.VIRTIO_VSOCK_OP_SHUTDOWN, { flags: this.#owesShutdown });
      this.#owesShutdown = 0;
    } else if (this.#owesCreditRequest) {
      this.#owesCreditRequest = false;
      header.put(protocol.VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    } else header.put(protocol.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    return null;
  }

  #putData(header: PacketHeader, roomBytes: number): Uint8Array | null {
    const bytes: Uint8Array | null = this.#socket.read(Math.min(this.#sendableBytes, roomBytes));
    const lengthBytes = bytes?.length ?? 0;
    header.put(protocol.VIRTIO_VSOCK_OP_RW, { lengthBytes });
    this.#sent = (this.#sent + lengthBytes) >>> 0;
    // Says that more is wanted, or that there will be none ("end").
    if (this.#socket.readableLength === 0) this.#onReadable();
    else this.#wantCredit();
    return bytes;
  }

  /** A packet of the guest; `payload` is this object's from now on. */
  receive(header: PacketHeader, payload: Uint8Array | null): void {
    if (this.#state === "ended") return;
    if (header.operation === protocol.VIRTIO_VSOCK_OP_RST) {
      this.#end(false);
      return;
    }
    this.learn(header);
    if (!this.#isTaken(header, payload)) this.#end(true);
    else {
      this.#wantCredit();
      this.#tell();
    }
  }

  /** What each packet of the guest tells of its window, the one that asks for the connection included. */
  learn({ bufferBytes, forwardedBytes }: PacketHeader): void {
    this.#guestBufferBytes = bufferBytes;
    this.#guestForwarded = forwardedBytes;
    this.#askedCredit = false;
  }

  /** False for what a correct guest does not send. */
  #isTaken(header: PacketHeader, payload: Uint8Array | null): boolean {
    if (header.operation === protocol.VIRTIO_VSOCK_OP_RESPONSE) return this.#onResponse();
    if (this.#state !== "open") return false;
    switch (header.operation) {
      case protocol.VIRTIO_VSOCK_OP_RW:
        return this.#onData(payload);
      case protocol.VIRTIO_VSOCK_OP_SHUTDOWN:
        this.#onShutdown(header.flags);
        return true;
      case protocol.VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        this.#owesCredit = true;
        return true;
      default:
        return header.operation === protocol.VIRTIO_VSOCK_OP_CREDIT_UPDATE;
    }
  }

  #onResponse(): boolean {
    if (this.#state !== "asking" || this.#owesRequest) return false;
    this.#open();
    const greeting = `OK ${this.hostPort}\n`;
    this.#greetingBytes = greeting.length;
    this.#socket.write(greeting, () => {
      this.#greetingBytes = 0;
    });
    return true;
  }

  #open(): void {
    this.#state = "open";
    this.#wasOpened = true;
    this.#events.opened(this);
  }

  #onData(payload: Uint8Array | null): boolean {
    if (this.#isShutDown(protocol.VIRTIO_VSOCK_SHUTDOWN_SEND)) return false;
    if (payload === null || payload.length === 0) return true;
    this.#received = (this.#received + payload.length) >>> 0;
    this.#socket.write(payload, this.#onWritten);
    return true;
  }

  /** Whether the guest may send so much now. */
  mayReceive(lengthBytes: number): boolean {
    return lengthBytes <= WINDOW_BYTES - ((this.#received - this.#forwardedTold) >>> 0);
  }

  /** One for all writes: it makes none anew for each packet. */
  readonly #onWritten = (): void => {
    const unknownToGuest = (this.#received - this.#forwardedTold) >>> 0;
    if (unknownToGuest < WINDOW_BYTES / 2 || this.#forwarded === this.#forwardedTold) return;
    this.#owesCredit = true;
    this.#tell();
  };

  /** How much of what the guest sent the host's side has taken. */
  get #forwarded(): number {
    const waiting = Math.max(0, this.#socket.writableLength - this.#greetingBytes);
    return (this.#received - waiting) >>> 0;
  }

  #onShutdown(flags: number): void {
    this.#guestShutdown |= flags & protocol.SHUTDOWN_BOTH;
    if (this.#isShutDown(protocol.VIRTIO_VSOCK_SHUTDOWN_RCV)) this.#socket.resume();
    if (this.#isShutDown(protocol.VIRTIO_VSOCK_SHUTDOWN_SEND)) this.#socket.end();
    this.#closeWhenDone();
  }

  #isShutDown(flag: number): boolean {
    return (this.#guestShutdown & flag) !== 0;
  }

  /** Closes once the guest wants no more, and all that it sent is with the host's side. */
  #closeWhenDone(): void {
    if (this.#guestShutdown === protocol.SHUTDOWN_BOTH && this.#socket.writableFinished) this.#socket.destroy();
  }

  #onDialed(): void {
    if (this.#state !== "dialing") return;
    this.#owesResponse = true;
    this.#open();
    this.#tell();
  }

  #onReadable(): void {
    // Nothing to read is the end, which a read has to find.
    if (this.#socket.readableLength === 0) {
      const bytes: Uint8Array | null = this.#socket.read();
      if (bytes !== null) this.#socket.unshift(bytes);
    }
    if (this.#isShutDown(protocol.VIRTIO_VSOCK_SHUTDOWN_RCV)) this.#socket.resume();
    this.#wantCredit();
    this.#tell();
  }

  #onHostEnd(): void {
    this.#owesShutdown |= protocol.VIRTIO_VSOCK_SHUTDOWN_SEND;
    this.#tell();
  }

  get #sendableBytes(): number {
    if (this.#isShutDown(protocol.VIRTIO_VSOCK_SHUTDOWN_RCV)) return 0;
    const inFlight = (this.#sent - this.#guestForwarded) >>> 0;
    return Math.min(this.#socket.readableLength, Math.max(0, this.#guestBufferBytes - inFlight));
  }

  /** Asks, once, a guest whose window is full. */
  #wantCredit(): void {
    const isStuck = this.#state === "open" && this.#socket.readableLength > 0 && this.#sendableBytes === 0;
    if (!isStuck || this.#askedCredit || this.#isShutDown(protocol.VIRTIO_VSOCK_SHUTDOWN_RCV)) return;
    this.#askedCredit = true;
    this.#owesCreditRequest = true;
  }

  #tell(): void {
    if (this.hasPacket) this.#events.ready(this);
  }

  /** Breaks it off; with `resets` the guest is told, unless it does not know of it. */
  close(resets: boolean): void {
    this.#end(resets);
  }

  #end(resets: boolean): void {
    if (this.#state === "ended") return;
    const isKnown = !this.#owesRequest;
    this.#state = "ended";
    this.#socket.destroy();
    this.#events.ended(this, resets && isKnown);
  }
}
