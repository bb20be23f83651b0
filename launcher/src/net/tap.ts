import { VNET_HEADER_BYTES } from "../../api/agent.ts";
import { SysError } from "../sys/errors.ts";
import { OwnedFd, setNonBlocking } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { ioctl, ioctlNumber } from "../sys/ioctl.ts";

// <linux/if_tun.h>
const TUNSETIFF = ioctlNumber.write(0x54, 202, 4);
const TUNSETOFFLOAD = ioctlNumber.write(0x54, 208, 4);
const TUNSETVNETHDRSZ = ioctlNumber.write(0x54, 216, 4);
const TUNSETQUEUE = ioctlNumber.write(0x54, 217, 4);
const TUNSETCARRIER = ioctlNumber.write(0x54, 226, 4);
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_ATTACH_QUEUE = 0x0200;
const IFF_DETACH_QUEUE = 0x0400;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;

// struct ifreq
const IFREQ_BYTES = 40;
const IFNAMSIZ = 16;
const IFREQ_FLAGS = 16;

const TUN_PATH = "/dev/net/tun";

/** One queue of a TAP, as whoever made the TAP left it. */
export class TapQueue implements Disposable {
  readonly #fd: OwnedFd;
  /** Undefined until it was set, or where the TAP has one queue and cannot do without. */
  #isAttached: boolean | undefined;

  /** `fd` is the queue's from now on. */
  constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  get fd(): number {
    return this.#fd.fd;
  }

  /** What the reader of this queue takes unfinished: TUN_F_*. The kernel finishes the rest. */
  setOffloads(flags: number): void {
    ioctl(this.fd, "TUNSETOFFLOAD", TUNSETOFFLOAD, flags);
  }

  /** A queue that is not attached gets no frames; of a TAP with several only. */
  setAttached(isAttached: boolean): void {
    if (this.#isAttached === isAttached) return;
    const request = new DataView(new ArrayBuffer(IFREQ_BYTES));
    request.setUint16(IFREQ_FLAGS, isAttached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE, true);
    try {
      ioctl(this.fd, "TUNSETQUEUE", TUNSETQUEUE, request);
    } catch (error) {
      // EINVAL: it is so already.
      if (!(error instanceof SysError && error.code === "EINVAL")) throw error;
    }
    this.#isAttached = isAttached;
  }

  /** Whether the other end sees a cable. */
  setCarrier(isUp: boolean): void {
    ioctl(this.fd, "TUNSETCARRIER", TUNSETCARRIER, new Int32Array([Number(isUp)]));
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

/** `queues` queues of the TAP `device`, which there is. Throws SysError. */
export function openTap(device: string, queues: number): readonly OwnedFd[] {
  using cleanup = new DisposableStack();
  const fds: OwnedFd[] = [];
  for (let i = 0; i < queues; i++) fds.push(cleanup.use(openQueue(device, queues > 1)));
  cleanup.move();
  return fds;
}

function openQueue(device: string, isOneOfSeveral: boolean): OwnedFd {
  using fd = openFile(TUN_PATH, { write: true });
  try {
    attach(fd.fd, device, isOneOfSeveral ? IFF_MULTI_QUEUE : 0);
  } catch (error) {
    // EINVAL: the TAP was made for several queues, which does not hinder one.
    if (isOneOfSeveral || !(error instanceof SysError && error.code === "EINVAL")) throw error;
    attach(fd.fd, device, IFF_MULTI_QUEUE);
  }
  ioctl(fd.fd, "TUNSETVNETHDRSZ", TUNSETVNETHDRSZ, new Int32Array([VNET_HEADER_BYTES]));
  setNonBlocking(fd.fd);
  return new OwnedFd(fd.take());
}

function attach(fd: number, device: string, flags: number): void {
  const request = new DataView(new ArrayBuffer(IFREQ_BYTES));
  new TextEncoder().encodeInto(device, new Uint8Array(request.buffer, 0, IFNAMSIZ - 1));
  request.setUint16(IFREQ_FLAGS, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags, true);
  ioctl(fd, "TUNSETIFF", TUNSETIFF, request);
}
