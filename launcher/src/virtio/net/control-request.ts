import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { DescriptorChain } from "../descriptor-chain.ts";
import type { FeatureBits } from "../device.ts";
import { VirtqueueError } from "../queue.ts";
import * as protocol from "./protocol.ts";

/** Class, command, and the longest data of those that are known. */
const REQUEST_BYTES_MAX = 2 + 8;

/** What the driver's commands change. */
export interface ControlTarget {
  /** Queue pairs of the device. */
  readonly maxPairs: number;
  readonly features: FeatureBits;
  usePairs(count: number): boolean;
  setGuestOffloads(features: FeatureBits): void;
  announced(): void;
}

/** Bits that VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET may switch, of those that were negotiated. */
const SWITCHABLE = [
  protocol.VIRTIO_NET_F_GUEST_CSUM,
  protocol.VIRTIO_NET_F_GUEST_TSO4,
  protocol.VIRTIO_NET_F_GUEST_TSO6,
  protocol.VIRTIO_NET_F_GUEST_ECN,
];

/** Carries out one command (section 5.1.6.5); answers the bytes it wrote. Throws VirtqueueError without room to answer. */
export function runControlRequest(chain: DescriptorChain, memory: GuestMemory, target: ControlTarget): number {
  if (chain.writableBytes < 1) throw new VirtqueueError("a control command without a byte for its answer");
  const request = new Uint8Array(Math.min(chain.readableBytes, REQUEST_BYTES_MAX));
  chain.read(memory, 0, request);
  const isDone = chain.readableBytes === request.length && run(request, target);
  return chain.write(memory, 0, Uint8Array.of(isDone ? protocol.VIRTIO_NET_OK : protocol.VIRTIO_NET_ERR));
}

function run(request: Uint8Array, target: ControlTarget): boolean {
  const view = new DataView(request.buffer);
  const [kind, command] = request;
  const dataBytes = request.length - 2;
  if (kind === protocol.VIRTIO_NET_CTRL_MQ && command === protocol.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) {
    if (!target.features.has(protocol.VIRTIO_NET_F_MQ) || dataBytes !== 2) return false;
    const pairs = view.getUint16(2, true);
    return pairs >= 1 && pairs <= target.maxPairs && target.usePairs(pairs);
  }
  if (kind === protocol.VIRTIO_NET_CTRL_ANNOUNCE && command === protocol.VIRTIO_NET_CTRL_ANNOUNCE_ACK) {
    if (!target.features.has(protocol.VIRTIO_NET_F_GUEST_ANNOUNCE) || dataBytes !== 0) return false;
    target.announced();
    return true;
  }
  if (kind === protocol.VIRTIO_NET_CTRL_GUEST_OFFLOADS && command === protocol.VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) {
    if (!target.features.has(protocol.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) || dataBytes !== 8) return false;
    return setOffloads(view.getUint32(2, true), view.getUint32(6, true), target);
  }
  return false;
}

function setOffloads(low: number, high: number, target: ControlTarget): boolean {
  const features = new Set(SWITCHABLE.filter((bit) => target.features.has(bit) && ((low >>> bit) & 1) === 1));
  const known = [...features].reduce((sum, bit) => sum + 2 ** bit, 0);
  if (high !== 0 || known !== low) return false;
  target.setGuestOffloads(features);
  return true;
}
