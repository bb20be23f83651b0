import type { FeatureBits, VirtioDriver } from "../device.ts";
import type { NetworkUse } from "./network-use.ts";
import * as protocol from "./protocol.ts";

/** What carries frames between the queue pairs of a driver and the world. Queue 2i receives, 2i+1 transmits. */
export interface DataPath extends Disposable {
  readonly name: "inProcess" | "vhost-net";
  /** The driver is ready; pair 0 carries frames from now on. */
  start(driver: VirtioDriver): void;
  /** Touches queues and guest memory no more when it returns. */
  stop(): void;
  /** The driver made chains available in one of the pairs' queues. */
  serve(queueIndex: number): boolean;
  /** The first `count` pairs carry frames, the others none. False where the driver has not set one of them up. */
  usePairs(count: number): boolean;
  /** What the driver takes unfinished from now on: feature bits VIRTIO_NET_F_GUEST_*. */
  setGuestOffloads(features: FeatureBits): void;
  setLink(isUp: boolean): void;
  /** Eventfd that a queue's doorbell goes to in place of `serve`; undefined for none. */
  doorbellFd(queueIndex: number): number | undefined;
  use(): NetworkUse;
}

/** One queue of a TAP, see TapQueue. */
export interface FrameQueue {
  readonly fd: number;
  setOffloads(flags: number): void;
  setAttached(isAttached: boolean): void;
  setCarrier(isUp: boolean): void;
}

// <linux/if_tun.h>
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;

/** The offloads of a TAP for what a driver takes. All others stand on the checksum. */
export function tapOffloads(features: FeatureBits): number {
  if (!features.has(protocol.VIRTIO_NET_F_GUEST_CSUM)) return 0;
  const isEither = features.has(protocol.VIRTIO_NET_F_GUEST_TSO4) || features.has(protocol.VIRTIO_NET_F_GUEST_TSO6);
  return (
    TUN_F_CSUM |
    (features.has(protocol.VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0) |
    (features.has(protocol.VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0) |
    (isEither && features.has(protocol.VIRTIO_NET_F_GUEST_ECN) ? TUN_F_TSO_ECN : 0)
  );
}
