import { constants, openSync } from "node:fs";
import { VNET_HEADER_BYTES } from "../../../../../launcher/api/agent.ts";
import { OwnedFd } from "../../../../../launcher/src/sys/fd.ts";
import { ioctl } from "../../../../../launcher/src/sys/ioctl.ts";
import { AgentFailure } from "../agent-failure.ts";

// <linux/if_tun.h>
const TUN_PATH = "/dev/net/tun";
const TUNSETIFF = 0x400454ca;
const TUNSETVNETHDRSZ = 0x400454d8;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_MULTI_QUEUE = 0x0100;
/** struct ifreq. */
const REQUEST_BYTES = 40;

/** Those of a guest are what a virtio device is made of; answering is plain frames. */
export type TapType = "guest" | "guest of several queues" | "answering";

const flagsOf: Readonly<Record<TapType, number>> = {
  // The kernel makes room for 256 queues where there may be several: 0.2 MiB.
  guest: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
  "guest of several queues": IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE,
  answering: IFF_TAP | IFF_NO_PI,
};

/** A queue of the TAP called `name` in this thread's network namespace, which is made when it is missing. */
export function openTapQueue(name: string, type: TapType): OwnedFd {
  using cleanup = new DisposableStack();
  // Opened here: a descriptor of it belongs to the namespace that it was opened in.
  const queue = cleanup.use(openTun());
  const request = Buffer.alloc(REQUEST_BYTES);
  request.write(name, 0, 15, "latin1");
  request.writeUInt16LE(flagsOf[type], 16);
  ioctl(queue.fd, "TUNSETIFF", TUNSETIFF, request);
  if (type !== "answering") {
    const header = Buffer.alloc(4);
    header.writeInt32LE(VNET_HEADER_BYTES, 0);
    ioctl(queue.fd, "TUNSETVNETHDRSZ", TUNSETVNETHDRSZ, header);
  }
  cleanup.move();
  return queue;
}

function openTun(): OwnedFd {
  try {
    return new OwnedFd(openSync(TUN_PATH, constants.O_RDWR | constants.O_NONBLOCK));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new AgentFailure("DeviceMissing", `${TUN_PATH} cannot be opened on this node (${reason}); load module tun`);
  }
}
