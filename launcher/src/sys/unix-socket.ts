import { check, checkUninterrupted } from "./errors.ts";
import { closeFd, OwnedFd, ownFd } from "./fd.ts";
import { addressOf } from "./koffi.ts";
import { libc } from "./libc.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_PEERCRED = 17;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const SO_PEERPIDFD = 77;
const MSG_CTRUNC = 0x08;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** sizeof(sun_path), with the NUL at its end. */
const PATH_LIMIT_BYTES = 108;
/** The most descriptors that one message takes (SCM_MAX_FD). */
export const MAX_FDS = 253;
const MSGHDR_BYTES = 56;
const CMSGHDR_BYTES = 16;

/** The kernel dropped descriptors on the way: no room for them, the limit of open files, or a policy forbids them. */
export class DescriptorsLost extends Error {
  constructor() {
    super("file descriptors were lost in a message (MSG_CTRUNC): more than expected, too many open files, or denied");
    this.name = "DescriptorsLost";
  }
}

/** Connects to the stream socket at `path`. Blocks while its backlog is full. Throws SysError. */
export function connectUnix(path: string): OwnedFd {
  const name = new TextEncoder().encode(path);
  if (name.length >= PATH_LIMIT_BYTES || name.includes(0))
    throw new RangeError(`socket path must have fewer than ${PATH_LIMIT_BYTES} bytes and no NUL: ${path}`);
  const address = new Uint8Array(new ArrayBuffer(2 + PATH_LIMIT_BYTES));
  address[0] = AF_UNIX;
  address.set(name, 2);
  using socket = ownFd("socket", libc().socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  checkUninterrupted("connect", () => libc().connect(socket.fd, address, address.length), path);
  return new OwnedFd(socket.take());
}

/** Two connected stream sockets. */
export function socketPair(): readonly [OwnedFd, OwnedFd] {
  const fds = new Int32Array(new ArrayBuffer(8));
  check("socketpair", libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
  return [new OwnedFd(fds[0] ?? -1), new OwnedFd(fds[1] ?? -1)];
}

/** Blocking calls on the socket fail with EAGAIN after `timeoutMs`. */
export function setSocketTimeout(fd: number, timeoutMs: number): void {
  const time = new DataView(new ArrayBuffer(16));
  time.setUint32(0, Math.floor(timeoutMs / 1000), true);
  time.setUint32(8, (timeoutMs % 1000) * 1000, true);
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO])
    check("setsockopt", libc().setsockopt(fd, SOL_SOCKET, option, time, 16));
}

/**
 * Sends `bytes` (at least one) with copies of `fds`, which stay open here. Never waits: EAGAIN when the socket's buffer
 * is full. Answers how many bytes went; the descriptors went with the first.
 */
export function sendFds(fd: number, bytes: Uint8Array, fds: readonly number[]): number {
  if (bytes.length === 0 || fds.length > MAX_FDS)
    throw new RangeError(`a message takes at least a byte and at most ${MAX_FDS} descriptors`);
  const message = new Message(bytes, fds.length);
  message.putFds(fds);
  const call = () => libc().sendmsg(fd, message.header, MSG_NOSIGNAL | MSG_DONTWAIT);
  return checkUninterrupted("sendmsg", call);
}

export interface Received {
  /** How many bytes of the buffer were filled; 0 at the end of the stream. */
  readonly lengthBytes: number;
  readonly fds: readonly OwnedFd[];
}

/** Receives bytes into `target`, and up to `maxFds` descriptors with them. Throws SysError, DescriptorsLost. */
export function recvFds(fd: number, target: Uint8Array, maxFds: number): Received {
  const message = new Message(target, maxFds);
  const lengthBytes = checkUninterrupted("recvmsg", () => libc().recvmsg(fd, message.header, MSG_CMSG_CLOEXEC));
  const fds = message.takeFds();
  if (message.flags & MSG_CTRUNC) {
    for (const received of fds) closeFd(received);
    throw new DescriptorsLost();
  }
  return { lengthBytes, fds: fds.map((received) => new OwnedFd(received)) };
}

/** A struct msghdr (LP64) for one buffer and room for descriptors. */
class Message {
  readonly header: DataView;
  readonly #control: DataView;
  /** Held so that it outlives the calls. */
  readonly #iovec: BigUint64Array;

  constructor(bytes: Uint8Array, maxFds: number) {
    this.#iovec = new BigUint64Array([BigInt(addressOf(bytes)), BigInt(bytes.length)]);
    this.#control = new DataView(new ArrayBuffer(CMSGHDR_BYTES + Math.ceil(maxFds / 2) * 8));
    this.header = new DataView(new ArrayBuffer(MSGHDR_BYTES));
    this.header.setBigUint64(16, BigInt(addressOf(this.#iovec)), true);
    this.header.setBigUint64(24, 1n, true);
    if (maxFds === 0) return;
    this.header.setBigUint64(32, BigInt(addressOf(this.#control)), true);
    this.header.setBigUint64(40, BigInt(CMSGHDR_BYTES + maxFds * 4), true);
  }

  get flags(): number {
    return this.header.getInt32(48, true);
  }

  putFds(fds: readonly number[]): void {
    if (fds.length === 0) return;
    this.#control.setBigUint64(0, BigInt(CMSGHDR_BYTES + fds.length * 4), true);
    this.#control.setInt32(8, SOL_SOCKET, true);
    this.#control.setInt32(12, SCM_RIGHTS, true);
    fds.forEach((fd, i) => {
      this.#control.setInt32(CMSGHDR_BYTES + i * 4, fd, true);
    });
  }

  takeFds(): number[] {
    if (Number(this.header.getBigUint64(40, true)) < CMSGHDR_BYTES) return [];
    if (this.#control.getInt32(8, true) !== SOL_SOCKET || this.#control.getInt32(12, true) !== SCM_RIGHTS) return [];
    const count = (Number(this.#control.getBigUint64(0, true)) - CMSGHDR_BYTES) / 4;
    return Array.from({ length: count }, (_, i) => this.#control.getInt32(CMSGHDR_BYTES + i * 4, true));
  }
}

export interface PeerCredentials {
  /** 0 where the peer lives in a process namespace that this one does not see. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Who connected, as the kernel noted it then. */
export function peerCredentials(fd: number): PeerCredentials {
  const [pid = 0, uid = 0, gid = 0] = new Int32Array(socketOption(fd, SO_PEERCRED, 12));
  return { pid, uid: uid >>> 0, gid: gid >>> 0 };
}

/** A descriptor of the process that connected, which no later process can take the place of (Linux 6.5). */
export function peerPidFd(fd: number): OwnedFd {
  return new OwnedFd(new Int32Array(socketOption(fd, SO_PEERPIDFD, 4))[0] ?? -1);
}

function socketOption(fd: number, name: number, sizeBytes: number): ArrayBuffer {
  const value = new ArrayBuffer(sizeBytes);
  const length = new Uint32Array([sizeBytes]);
  check("getsockopt", libc().getsockopt(fd, SOL_SOCKET, name, new Uint8Array(value), length));
  return value;
}
