import type { GuestMemory } from "../memory/guest-memory.ts";
import type { EventFd } from "../sys/eventfd.ts";
import type { Virtqueue } from "./queue.ts";

/** Numbers of feature bits, 0 to 63. */
export type FeatureBits = ReadonlySet<number>;

// Virtio 1.2, section 6: feature bits that all devices have.
export const VIRTIO_F_INDIRECT_DESC = 28;
export const VIRTIO_F_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;

/** Of what one device saves of itself. */
export const DEVICE_STATE_LIMIT_BYTES = 64 * 1024;

/**
 * What a device is to its transport. All calls come from the event loop. A device throws nothing but VirtqueueError
 * and GuestMemoryError for what its driver did; its transport then fails the device, and only the device.
 *
 * From `activate` to `reset` the device has a driver. It may use queues and guest memory while `driver.isLive`, and
 * starts nothing after. What it started before (I/O into guest memory) goes on until the promise of `reset` resolves.
 * All state that a migration needs is in the queues' positions, the negotiated features and the device's config.
 */
export interface VirtioDevice {
  /** For messages, e.g. "virtio-blk root". */
  readonly name: string;
  /** Section 5. */
  readonly deviceType: number;
  /** Class, subclass and interface in PCI configuration space, 24 bit. */
  readonly pciClass: number;
  /** Bits that the driver may take. VIRTIO_F_VERSION_1 is among them. */
  readonly features: FeatureBits;
  /** Size of each queue, a power of two; the driver may make it smaller. */
  readonly queueSizes: readonly number[];

  /** Reads device-specific configuration: 1, 2, 4 or 8 bytes. What does not exist reads as zero. */
  readConfig(offset: number, data: Uint8Array): void;

  /** Writes to fields that are read-only or do not exist are dropped. */
  writeConfig(offset: number, data: Uint8Array): void;

  /**
   * The driver is ready. The transport calls `serve` for each queue right after; or later, where the device goes on from a
   * saved state: it is held until then.
   */
  activate(driver: VirtioDriver, isHeld?: boolean): void;

  /**
   * The driver made chains available in an enabled queue. Answers true when it stopped with more to do, so that other
   * devices get their turn: the transport calls again soon.
   */
  serve(queueIndex: number): boolean;

  /**
   * Takes nothing more from queues or from outside, and touches guest memory no more once nothing is under way: undefined
   * when that is so, else a promise for it. `serve` is called for each queue when the device is to go on. What it turned
   * away meanwhile it takes then.
   */
  hold(): Promise<void> | undefined;

  /**
   * While it is held, with a driver: what a device of the same configuration needs to go on beside its queues and its
   * features, at most DEVICE_STATE_LIMIT_BYTES. Absent where that is nothing.
   */
  saveState?(): Uint8Array;

  /** Right after `activate`: goes on as the saved device; nothing is served before the guest runs. Throws CodecError or StateRefused. */
  restoreState?(state: Uint8Array, version: number): void;

  /** Eventfd that is rung for a queue in place of `serve`, while there is one. */
  doorbellFd?(queueIndex: number): number | undefined;

  /** Whether one request in a queue is often followed by the next: it is looked at for a while, where there is a poller. */
  isPolled?(queueIndex: number): boolean;

  /** Gives up the driver. Undefined when nothing is under way, else a promise for when nothing is. */
  reset(): Promise<void> | undefined;
}

/** The driver's side as the device sees it, from DRIVER_OK to reset or failure. */
export interface VirtioDriver {
  readonly memory: GuestMemory;
  /** What was negotiated. */
  readonly features: FeatureBits;
  /** False once the driver reset the device or the device failed: queues and memory are no longer the device's. */
  readonly isLive: boolean;
  /** Undefined where the driver did not enable the queue. */
  queue(index: number): Virtqueue | undefined;
  /** `serve` is called for the queue in a later turn of the event loop. */
  serveSoon(index: number): void;
  /** Interrupts the driver for what was pushed to the queue, if it wants that. */
  signalUsed(index: number): void;
  /**
   * For a queue that somebody else fills, who looks whether the driver wants interrupts: each signal of `event` is one, until
   * this is disposed. It waits for no turn of the event loop where KVM can see to it.
   */
  interruptBy(index: number, event: EventFd): Disposable;
  /** What `doorbellFd` answers is another one now. */
  doorbellsChanged(): void;
  /** The configuration changed: raises the generation and interrupts. */
  signalConfigChange(): void;
  /** The device can not go on with this driver: NEEDS_RESET. */
  fail(error: unknown): void;
}

/** Copies a part of `source` into `data`; what lies beyond reads as zero. For `VirtioDevice.readConfig`. */
export function readConfigBytes(source: Uint8Array, offset: number, data: Uint8Array): void {
  for (let i = 0; i < data.length; i++) data[i] = source[offset + i] ?? 0;
}
