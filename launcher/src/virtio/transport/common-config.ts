import { StateRefused } from "../../codec/state-refused.ts";
import type { RangeHandler } from "../../memory/address-space.ts";
import { gpaFromHalves } from "../../memory/gpa.ts";
import {
  type FeatureBits,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
} from "../device.ts";
import { VirtqueueError, type VirtqueueLayout } from "../queue.ts";
import {
  isNegotiating,
  isSettingUp,
  STATUS_DRIVER_OK,
  STATUS_FAILED,
  STATUS_FEATURES_OK,
  STATUS_NEEDS_RESET,
  STATUSES,
  statusStep,
} from "./device-status.ts";
import type { CommonConfigState } from "./state.ts";

/** Bytes of struct virtio_pci_common_cfg without the fields that features beyond ours add (section 4.1.4.3). */
export const COMMON_CONFIG_SIZE = 56;
export const NO_VECTOR = 0xffff;

/** What the rest of the transport does at the turns of a driver's life. */
export interface CommonConfigEvents {
  /** DRIVER_OK was set. */
  ready(): void;
  /** Interrupts of a queue go elsewhere. */
  vectorChanged(): void;
  /** 0 was written to the status. Calls `finishReset`, at once or when the device has come to rest. */
  reset(): void;
}

interface QueueRegisters {
  readonly maxSize: number;
  size: number;
  vector: number;
  enabled: boolean;
  /** Descriptor table, available ring, used ring: low and high half each. */
  readonly addresses: Uint32Array;
}

interface Register {
  readonly name: string;
  /** Bytes. */
  readonly width: 1 | 2 | 4;
  readonly read: (config: CommonConfig) => number;
  readonly write?: (config: CommonConfig, value: number) => void;
}

/**
 * The common configuration of one virtio-pci device: status, features, queue set-up, vectors. An access has to be as
 * wide as its field (64-bit fields: as either half); others read all ones and write nothing. So do writes in a status
 * that does not allow them: features after FEATURES_OK, queue fields before it and after DRIVER_OK.
 */
export class CommonConfig implements RangeHandler {
  readonly #device: VirtioDevice;
  readonly #vectorCount: number;
  readonly #events: CommonConfigEvents;
  readonly #queues: QueueRegisters[];
  #status = 0;
  #resetting = false;
  #generation = 0;
  #offerSelect = 0;
  #takeSelect = 0;
  readonly #driverFeatures = new Uint32Array(2);
  #configVector = NO_VECTOR;
  #queueSelect = 0;

  /** Names as in struct virtio_pci_common_cfg; 64-bit fields are two registers. */
  static readonly #registers = new Map<number, Register>([
    [
      0x00,
      { name: "device_feature_select", width: 4, read: (c) => c.#offerSelect, write: (c, v) => c.#selectOffer(v) },
    ],
    [0x04, { name: "device_feature", width: 4, read: (c) => featureWord(c.#device.features, c.#offerSelect) }],
    [0x08, { name: "driver_feature_select", width: 4, read: (c) => c.#takeSelect, write: (c, v) => c.#selectTake(v) }],
    [0x0c, { name: "driver_feature", width: 4, read: (c) => c.#takenWord(), write: (c, v) => c.#take(v) }],
    [0x10, { name: "config_msix_vector", width: 2, read: (c) => c.#configVector, write: (c, v) => c.#setVector(v) }],
    [0x12, { name: "num_queues", width: 2, read: (c) => c.#queues.length }],
    [0x14, { name: "device_status", width: 1, read: (c) => c.#status, write: (c, v) => c.#setStatus(v) }],
    [0x15, { name: "config_generation", width: 1, read: (c) => c.#generation }],
    [0x16, { name: "queue_select", width: 2, read: (c) => c.#queueSelect, write: (c, v) => c.#selectQueue(v) }],
    [0x18, { name: "queue_size", width: 2, read: (c) => c.#queue?.size ?? 0, write: (c, v) => c.#setSize(v) }],
    [
      0x1a,
      { name: "queue_msix_vector", width: 2, read: (c) => c.#queueVector(), write: (c, v) => c.#setQueueVector(v) },
    ],
    [
      0x1c,
      { name: "queue_enable", width: 2, read: (c) => Number(c.#queue?.enabled ?? 0), write: (c, v) => c.#enable(v) },
    ],
    [0x1e, { name: "queue_notify_off", width: 2, read: (c) => (c.#queue ? c.#queueSelect : 0) }],
    [0x20, CommonConfig.#halfAddress("queue_desc low", 0)],
    [0x24, CommonConfig.#halfAddress("queue_desc high", 1)],
    [0x28, CommonConfig.#halfAddress("queue_driver low", 2)],
    [0x2c, CommonConfig.#halfAddress("queue_driver high", 3)],
    [0x30, CommonConfig.#halfAddress("queue_device low", 4)],
    [0x34, CommonConfig.#halfAddress("queue_device high", 5)],
  ]);

  /** One half of an address of the selected queue. */
  static #halfAddress(name: string, half: number): Register {
    return { name, width: 4, read: (c) => c.#queue?.addresses[half] ?? 0, write: (c, v) => c.#setAddress(half, v) };
  }

  constructor(device: VirtioDevice, vectorCount: number, events: CommonConfigEvents) {
    this.#device = device;
    this.#vectorCount = vectorCount;
    this.#events = events;
    this.#queues = device.queueSizes.map((maxSize) => ({
      maxSize,
      size: maxSize,
      vector: NO_VECTOR,
      enabled: false,
      addresses: new Uint32Array(6),
    }));
  }

  read(offset: number, data: Uint8Array): void {
    const found = CommonConfig.#registers.get(offset);
    if (found?.width !== data.length) {
      data.fill(0xff);
      return;
    }
    const value = found.read(this);
    for (let i = 0; i < data.length; i++) data[i] = value >>> (8 * i);
  }

  write(offset: number, data: Uint8Array): void {
    const found = CommonConfig.#registers.get(offset);
    if (found?.width !== data.length || this.#resetting) return;
    let value = 0;
    for (let i = 0; i < data.length; i++) value += (data[i] ?? 0) * 2 ** (8 * i);
    found.write?.(this, value);
  }

  get status(): number {
    return this.#status;
  }

  get configVector(): number {
    return this.#configVector;
  }

  queueVector(index: number): number {
    return this.#queues[index]?.vector ?? NO_VECTOR;
  }

  /** The features that the driver took. */
  negotiatedFeatures(): FeatureBits {
    const taken = [...this.#device.features].filter((bit) => hasBit(this.#driverFeatures, bit));
    return new Set(taken);
  }

  /** Where the driver put queue `index`; undefined when it is not enabled. Throws VirtqueueError. */
  queueLayout(index: number): VirtqueueLayout | undefined {
    const queue = this.#queues[index];
    if (!queue?.enabled) return undefined;
    if (queue.size > queue.maxSize)
      throw new VirtqueueError(`queue ${index} of ${queue.size} entries is larger than ${queue.maxSize}`);
    const [descLow = 0, descHigh = 0, availLow = 0, availHigh = 0, usedLow = 0, usedHigh = 0] = queue.addresses;
    const descriptorTable = gpaFromHalves(descLow, descHigh);
    const availableRing = gpaFromHalves(availLow, availHigh);
    const usedRing = gpaFromHalves(usedLow, usedHigh);
    if (descriptorTable === null || availableRing === null || usedRing === null)
      throw new VirtqueueError(`queue ${index} lies beyond the guest's address space`);
    const eventIndex = hasBit(this.#driverFeatures, VIRTIO_F_EVENT_IDX);
    const indirect = hasBit(this.#driverFeatures, VIRTIO_F_INDIRECT_DESC);
    const { size, maxSize: chainLimit } = queue;
    return { size, descriptorTable, availableRing, usedRing, chainLimit, eventIndex, indirect };
  }

  /** The device cannot go on; only a reset leads out. */
  setNeedsReset(): void {
    if (this.#status !== 0) this.#status |= STATUS_NEEDS_RESET;
  }

  raiseGeneration(): void {
    this.#generation = (this.#generation + 1) & 0xff;
  }

  /** As after power-on, the generation apart. Until then the status reads as before, so that the driver waits. */
  finishReset(): void {
    this.#resetting = false;
    this.#status = 0;
    this.#offerSelect = 0;
    this.#takeSelect = 0;
    this.#driverFeatures.fill(0);
    this.#configVector = NO_VECTOR;
    this.#queueSelect = 0;
    for (const queue of this.#queues) {
      queue.size = queue.maxSize;
      queue.vector = NO_VECTOR;
      queue.enabled = false;
      queue.addresses.fill(0);
    }
  }

  /** No reset is under way. */
  save(): CommonConfigState {
    return {
      status: this.#status,
      generation: this.#generation,
      offerSelect: this.#offerSelect,
      takeSelect: this.#takeSelect,
      driverFeatures: [...this.#driverFeatures],
      configVector: this.#configVector,
      queueSelect: this.#queueSelect,
      queues: this.#queues.map(({ size, vector, enabled, addresses }) => {
        return { size, vector, enabled, addresses: [...addresses] };
      }),
    };
  }

  /** Tells nobody. Throws StateRefused where no driver could have brought this device there. */
  restore(state: CommonConfigState): void {
    if (state.queues.length !== this.#queues.length)
      throw new StateRefused(
        "virtio",
        `${state.queues.length} queues were saved, and there are ${this.#queues.length}`,
      );
    if (!STATUSES.has(state.status & ~(STATUS_NEEDS_RESET | STATUS_FAILED)))
      throw new StateRefused("virtio", `status 0x${state.status.toString(16)} is none that a driver reaches`);
    this.#driverFeatures.set(state.driverFeatures.slice(0, 2));
    if ((state.status & STATUS_FEATURES_OK) !== 0 && !this.#featuresAreSound())
      throw new StateRefused("virtio", "the driver took features that this launcher does not offer");
    this.#status = state.status;
    this.#generation = state.generation;
    this.#offerSelect = state.offerSelect;
    this.#takeSelect = state.takeSelect;
    this.#configVector = this.#vector(state.configVector);
    this.#queueSelect = state.queueSelect;
    state.queues.forEach((saved, i) => {
      const queue = this.#queues[i];
      if (!queue) return;
      queue.size = saved.size;
      queue.vector = this.#vector(saved.vector);
      queue.enabled = saved.enabled;
      queue.addresses.set(saved.addresses.slice(0, queue.addresses.length));
    });
  }

  /** Starts a reset as if the driver had asked for it. */
  startReset(): void {
    if (this.#resetting) return;
    this.#resetting = true;
    this.#events.reset();
  }

  /** The selected queue; undefined where there is none of that number. */
  get #queue(): QueueRegisters | undefined {
    return this.#queues[this.#queueSelect];
  }

  /** The selected queue while it may be changed. */
  get #queueToSetUp(): QueueRegisters | undefined {
    const queue = this.#queue;
    return queue && !queue.enabled && isSettingUp(this.#status) ? queue : undefined;
  }

  #setStatus(written: number): void {
    const step = statusStep(this.#status, written);
    if (step === "reset") this.startReset();
    if (typeof step === "string") return;
    const gained = step & ~this.#status;
    // Section 2.2.2: a driver that finds FEATURES_OK still unset knows that its choice was refused.
    if ((gained & STATUS_FEATURES_OK) !== 0 && !this.#featuresAreSound()) return;
    this.#status = step;
    if ((gained & STATUS_DRIVER_OK) !== 0) this.#events.ready();
  }

  #featuresAreSound(): boolean {
    const offered = this.#device.features;
    const soundWord = (select: 0 | 1) =>
      ((this.#driverFeatures[select] ?? 0) & ~featureWord(offered, select)) >>> 0 === 0;
    return soundWord(0) && soundWord(1) && hasBit(this.#driverFeatures, VIRTIO_F_VERSION_1);
  }

  #selectOffer(value: number): void {
    this.#offerSelect = value;
  }

  #selectTake(value: number): void {
    this.#takeSelect = value;
  }

  #takenWord(): number {
    return this.#driverFeatures[this.#takeSelect] ?? 0;
  }

  #take(value: number): void {
    if (isNegotiating(this.#status) && this.#takeSelect < 2) this.#driverFeatures[this.#takeSelect] = value;
  }

  #selectQueue(value: number): void {
    this.#queueSelect = value;
  }

  #setSize(value: number): void {
    const queue = this.#queueToSetUp;
    if (queue) queue.size = value;
  }

  #setAddress(half: number, value: number): void {
    const queue = this.#queueToSetUp;
    if (queue) queue.addresses[half] = value;
  }

  #enable(value: number): void {
    const queue = this.#queueToSetUp;
    if (queue && value === 1) queue.enabled = true;
  }

  // Vectors say only where interrupts go, and drivers change them at any time.
  #setVector(value: number): void {
    this.#configVector = this.#vector(value);
  }

  #queueVector(): number {
    return this.#queue?.vector ?? NO_VECTOR;
  }

  #setQueueVector(value: number): void {
    const queue = this.#queue;
    if (!queue) return;
    queue.vector = this.#vector(value);
    this.#events.vectorChanged();
  }

  #vector(value: number): number {
    return value < this.#vectorCount ? value : NO_VECTOR;
  }
}

/** Bits 32 x `select` and up; there are none beyond 63. */
function featureWord(features: FeatureBits, select: number): number {
  let word = 0;
  for (const bit of features) if (Math.floor(bit / 32) === select) word |= 1 << (bit % 32);
  return word >>> 0;
}

function hasBit(words: Uint32Array, bit: number): boolean {
  return (((words[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1;
}
