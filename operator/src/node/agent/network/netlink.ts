import { checkUninterrupted, SysError } from "../../../../../launcher/src/sys/errors.ts";
import { type OwnedFd, ownFd } from "../../../../../launcher/src/sys/fd.ts";
import { libc } from "../../../../../launcher/src/sys/libc.ts";
import { setSocketTimeout } from "../../../../../launcher/src/sys/unix-socket.ts";

// <linux/netlink.h>
const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 0x01;
const NLM_F_ACK = 0x04;
const NLM_F_ACK_TLVS = 0x200;
const NLM_F_DUMP = 0x300;
const NLMSGERR_ATTR_MSG = 1;
const HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
/** The kernel makes no larger ones. */
const MESSAGE_MAX_BYTES = 64 * 1024;
/** The kernel answers within the call that asks, so nobody waits that long. */
const TIMEOUT_MS = 5_000;

/** Flags of a request that makes something: fails where it is there already, or takes its place. */
export const CREATE = 0x400;
export const EXCLUSIVE = 0x200;
export const REPLACE = 0x100;

export interface NetlinkRequest {
  readonly type: number;
  readonly flags?: number;
  /** What follows the header: the family's struct, then attributes. */
  readonly body: Uint8Array;
}

/** What the kernel says no to. The message has the kernel's own words where it has some. */
export class NetlinkError extends SysError {
  constructor(what: string, errno: number, words: string | undefined) {
    super(what, errno, words);
    this.name = "NetlinkError";
  }
}

/**
 * A socket of routing netlink (rtnetlink(7)). It belongs to the network namespace that it was opened in, wherever its
 * user goes.
 */
export class NetlinkSocket implements Disposable {
  readonly #socket: OwnedFd;
  readonly #buffer = Buffer.alloc(MESSAGE_MAX_BYTES);
  #sequence = 0;

  constructor() {
    this.#socket = ownFd("socket", libc().socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    setSocketTimeout(this.#socket.fd, TIMEOUT_MS);
    const on = Buffer.from([1, 0, 0, 0]);
    for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK])
      checkUninterrupted("setsockopt", () => libc().setsockopt(this.#socket.fd, SOL_NETLINK, option, on, on.length));
  }

  /** Asks for one change. `what` names it in the NetlinkError that a refusal becomes. */
  change(what: string, request: NetlinkRequest): void {
    this.#exchange(what, request, NLM_F_ACK);
  }

  /** Bodies of all messages that answer. */
  list(what: string, request: NetlinkRequest): readonly Buffer[] {
    return this.#exchange(what, request, NLM_F_DUMP);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  #exchange(what: string, { type, flags = 0, body }: NetlinkRequest, mode: number): readonly Buffer[] {
    const sequence = ++this.#sequence;
    const message = Buffer.alloc(HEADER_BYTES + body.length);
    message.writeUInt32LE(message.length, 0);
    message.writeUInt16LE(type, 4);
    message.writeUInt16LE(NLM_F_REQUEST | mode | flags, 6);
    message.writeUInt32LE(sequence, 8);
    message.set(body, HEADER_BYTES);
    checkUninterrupted(what, () => libc().write(this.#socket.fd, message, message.length));
    const found: Buffer[] = [];
    for (;;) {
      const length = checkUninterrupted(what, () => libc().read(this.#socket.fd, this.#buffer, this.#buffer.length));
      for (const part of messagesOf(this.#buffer.subarray(0, length))) {
        if (part.sequence !== sequence) continue;
        if (part.type === NLMSG_DONE || part.type === NLMSG_ERROR) {
          const errno = -part.body.readInt32LE(0);
          if (errno > 0) throw new NetlinkError(what, errno, wordsOf(part));
          return found;
        }
        found.push(Buffer.from(part.body));
      }
    }
  }
}

interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Buffer;
}

function messagesOf(bytes: Buffer): readonly Message[] {
  const messages: Message[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    if (length < HEADER_BYTES) break;
    messages.push({
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      body: bytes.subarray(at + HEADER_BYTES, at + length),
    });
    at += aligned(length);
  }
  return messages;
}

/** The kernel's words in an answer (NLMSGERR_ATTR_MSG): they follow the error and, as it was capped, a header. */
function wordsOf({ flags, type, body }: Message): string | undefined {
  if (!(flags & NLM_F_ACK_TLVS)) return undefined;
  const at = type === NLMSG_ERROR ? 4 + HEADER_BYTES : 4;
  return textOf(attributesOf(body, at).get(NLMSGERR_ATTR_MSG));
}

/** One attribute; of several values, they nest. */
export function attribute(type: number, value: Uint8Array | number | string | readonly Uint8Array[]): Buffer {
  const payload = payloadOf(value);
  const bytes = Buffer.alloc(aligned(ATTRIBUTE_HEADER_BYTES + payload.length));
  bytes.writeUInt16LE(ATTRIBUTE_HEADER_BYTES + payload.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(payload, ATTRIBUTE_HEADER_BYTES);
  return bytes;
}

function payloadOf(value: Uint8Array | number | string | readonly Uint8Array[]): Uint8Array {
  if (value instanceof Uint8Array) return value;
  if (typeof value === "string") return Buffer.from(`${value}\0`);
  if (typeof value !== "number") return Buffer.concat(value);
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value, 0);
  return bytes;
}

/** Attributes of a message from `offsetBytes` on; of several of one type, the last. */
export function attributesOf(bytes: Buffer, offsetBytes = 0): ReadonlyMap<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = offsetBytes; at + ATTRIBUTE_HEADER_BYTES <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER_BYTES) break;
    // The two highest bits say how the value is written.
    found.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length));
    at += aligned(length);
  }
  return found;
}

/** An attribute's text without the NUL at its end. */
export function textOf(value: Buffer | undefined): string | undefined {
  return value?.toString("utf8").replace(/\0.*$/s, "");
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}
