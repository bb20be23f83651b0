import { refusing, StateRefused } from "../../codec/state-refused.ts";
import type { Doorbells, MsiSink, MsiWires } from "../../kvm/interrupts.ts";
import { AddressSpace, type RangeHandler } from "../../memory/address-space.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { Msix } from "../../pci/msix.ts";
import { PciFunction } from "../../pci/pci-function.ts";
import type { PciDevice } from "../../pci/pci-root.ts";
import type { EventFd } from "../../sys/eventfd.ts";
import type { Poller } from "../../sys/poll-source.ts";
import type { FeatureBits, VirtioDevice, VirtioDriver } from "../device.ts";
import { Virtqueue } from "../queue.ts";
import { COMMON_CONFIG_SIZE, CommonConfig } from "./common-config.ts";
import { STATUS_DRIVER_OK, STATUS_NEEDS_RESET } from "./device-status.ts";
import { addPciConfigCapability, addVirtioCapability, CapabilityType } from "./pci-capabilities.ts";
import { QueueWires } from "./queue-wires.ts";
import type { VirtioPciState } from "./state.ts";
import { WatchedQueues } from "./watched-queues.ts";

const VENDOR_ID = 0x1af4;
/** Section 4.1.2: device ids of modern devices start here. */
const DEVICE_ID_BASE = 0x1040;
const SUBSYSTEM_ID = 0x40;
/** Non-transitional. */
const REVISION = 1;

const BAR = 0;
const BAR_SIZE = 0x8000;
/** One page a structure, so that the guest can map each with its own attributes. */
const Offset = {
  common: 0,
  isr: 0x1000,
  device: 0x2000,
  notify: 0x3000,
  msixTable: 0x4000,
  msixPending: 0x5000,
} as const;
const DEVICE_CONFIG_SIZE = 0x1000;
/** Distance of two queues' doorbells. */
const NOTIFY_MULTIPLIER = 4;
/** The most queues whose doorbells and vectors fit the layout. */
export const VIRTIO_PCI_MAX_QUEUES = 128;

const ISR_QUEUE = 1;
const ISR_CONFIG = 2;

/** What a virtio device needs of the machine. */
export interface VirtioPciHost {
  readonly memory: GuestMemory;
  readonly msi: MsiSink;
  /** Absent where KVM has none. */
  readonly msiWires?: MsiWires | undefined;
  readonly doorbells: Doorbells;
  /** Looks at the queues of devices that are polled; all ring without. */
  readonly poller?: Poller;
  /**
   * Told when a device failed because of what its driver did, or a doorbell could not be had. A guest can cause many
   * of these: whoever logs them limits how many.
   */
  onFault(deviceName: string, error: Error): void;
}

/** One virtio device on the PCI bus (virtio 1.2, section 4.1), without legacy interface and INTx. */
export class VirtioPciDevice implements PciDevice {
  readonly pci: PciFunction;
  readonly #device: VirtioDevice;
  readonly #host: VirtioPciHost;
  readonly #common: CommonConfig;
  readonly #msix: Msix;
  readonly #wires: QueueWires;
  readonly #bar = new AddressSpace("virtio BAR");
  #isr = 0;
  #barAddress: number | null = null;
  /** Null unless the driver is ready, and the device did not fail since. */
  #session: DriverSession | null = null;
  #doorbells: Disposable[] = [];
  readonly #watched: WatchedQueues;
  /** Invariant: resolved unless a reset is under way. */
  #rest: Promise<void> = Promise.resolve();
  /** No queue is served meanwhile. */
  #isHeld = false;

  constructor(device: VirtioDevice, host: VirtioPciHost) {
    const queueCount = device.queueSizes.length;
    if (queueCount > VIRTIO_PCI_MAX_QUEUES) throw new RangeError(`${device.name}: ${queueCount} queues`);
    this.#device = device;
    this.#host = host;
    this.#watched = new WatchedQueues(host.poller ?? null, (index) => this.#serve(index));
    this.#msix = new Msix(queueCount + 1, host.msi);
    this.#common = new CommonConfig(device, queueCount + 1, {
      ready: () => this.#activate(),
      reset: () => this.#resetDevice(),
      vectorChanged: () => this.#wires.update(),
    });
    this.#wires = new QueueWires({
      msix: this.#msix,
      wires: host.msiWires,
      vectorOf: (index) => this.#common.queueVector(index),
      interrupt: (index) => {
        if (this.#session) this.#interrupt(this.#common.queueVector(index), ISR_QUEUE);
      },
    });
    this.pci = new PciFunction({
      vendorId: VENDOR_ID,
      deviceId: DEVICE_ID_BASE + device.deviceType,
      revision: REVISION,
      classCode: device.pciClass,
      subsystemVendorId: VENDOR_ID,
      subsystemId: SUBSYSTEM_ID,
    });
    this.#layOutBar(queueCount);
    this.#addCapabilities(queueCount);
  }

  get device(): VirtioDevice {
    return this.#device;
  }

  /** Resolves when the device is as after power-on and touches guest memory no more. */
  async reset(): Promise<void> {
    this.#common.startReset();
    await this.#rest;
    this.#isHeld = false;
    this.#msix.reset();
    this.pci.reset();
  }

  /**
   * Serves no queue until `release`; resolves when nothing is under way and the device touches guest memory no more. No
   * vCPU is in the guest.
   */
  async hold(): Promise<void> {
    this.#isHeld = true;
    this.#watched.clear();
    await Promise.all([this.#device.hold(), this.#rest]);
  }

  /** Serves all queues: the driver may have rung meanwhile, or before the device was restored. */
  release(): void {
    this.#isHeld = false;
    const queueCount = this.#session?.queues.length ?? 0;
    for (let i = 0; i < queueCount; i++) this.#serve(i);
  }

  /** While it is held. */
  save(): VirtioPciState {
    const session = this.#session;
    const busy = session?.queues.find((queue) => queue && queue.inFlightCount > 0);
    if (busy) throw new Error(`${this.#device.name} has requests under way while it is held`);
    return {
      name: this.#device.name,
      deviceType: this.#device.deviceType,
      pci: this.pci.save(),
      msix: this.#msix.save(),
      common: this.#common.save(),
      isr: this.#isr,
      session: session && {
        positions: session.queues.map((queue) => queue?.position ?? null),
        device: this.#device.saveState?.() ?? new Uint8Array(0),
      },
    };
  }

  /** Goes on as the saved device, held until `release`. Of a device that is as after power-on. Throws StateRefused. */
  restore(state: VirtioPciState, version: number): void {
    const { name } = this.#device;
    if (state.name !== name || state.deviceType !== this.#device.deviceType)
      throw new StateRefused(name, `the state is that of ${state.name}`);
    this.#isHeld = true;
    refusing(name, () => {
      this.#msix.restore(state.msix);
      this.#common.restore(state.common);
      this.#isr = state.isr;
      const isReady = (state.common.status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) === STATUS_DRIVER_OK;
      if (isReady !== (state.session !== null))
        throw new StateRefused(name, `status 0x${state.common.status.toString(16)} does not fit its queues`);
      if (state.session) this.#restoreSession(state.session, version);
      this.pci.restore(state.pci);
    });
  }

  #restoreSession({ positions, device }: NonNullable<VirtioPciState["session"]>, version: number): void {
    const session = this.#newSession();
    this.#makeQueues(session);
    session.queues.forEach((queue, i) => {
      const position = positions[i] ?? null;
      if ((queue === undefined) !== (position === null))
        throw new StateRefused(this.#device.name, `queue ${i} does not fit its position`);
      if (position) queue?.resumeAt(position);
    });
    this.#session = session;
    this.#device.activate(session, true);
    if (this.#device.restoreState) this.#device.restoreState(device, version);
    else if (device.length > 0) throw new StateRefused(this.#device.name, "more was saved than this launcher knows of");
  }

  #layOutBar(queueCount: number): void {
    const device = this.#device;
    const bar = this.#bar;
    bar.add(Offset.common, COMMON_CONFIG_SIZE, this.#common);
    bar.add(Offset.isr, 1, { read: (_offset, data) => this.#readIsr(data), write() {} });
    bar.add(Offset.device, DEVICE_CONFIG_SIZE, {
      read: (offset, data) => device.readConfig(offset, data),
      write: (offset, data) => device.writeConfig(offset, data),
    });
    bar.add(Offset.notify, queueCount * NOTIFY_MULTIPLIER, {
      read: (_offset, data) => void data.fill(0),
      write: (offset) => this.#serve(Math.floor(offset / NOTIFY_MULTIPLIER)),
    });
    const msix = this.#msix;
    bar.add(Offset.msixTable, msix.tableSizeBytes, {
      read: (offset, data) => msix.readTable(offset, data),
      write: (offset, data) => msix.writeTable(offset, data),
    });
    bar.add(Offset.msixPending, msix.pendingSizeBytes, {
      read: (offset, data) => msix.readPending(offset, data),
      write() {},
    });
    const handler: RangeHandler = {
      read: (offset, data) => bar.read(offset, data),
      write: (offset, data) => bar.write(offset, data),
    };
    this.pci.addBar({ index: BAR, sizeBytes: BAR_SIZE, handler, onMoved: (address) => this.#moveDoorbells(address) });
  }

  #addCapabilities(queueCount: number): void {
    const structure = (type: CapabilityType, offset: number, lengthBytes: number, extra?: number) =>
      addVirtioCapability(this.pci, { type, bar: BAR, offset, lengthBytes }, extra);
    structure(CapabilityType.common, Offset.common, COMMON_CONFIG_SIZE);
    structure(CapabilityType.isr, Offset.isr, 1);
    structure(CapabilityType.device, Offset.device, DEVICE_CONFIG_SIZE);
    structure(CapabilityType.notify, Offset.notify, queueCount * NOTIFY_MULTIPLIER, NOTIFY_MULTIPLIER);
    addPciConfigCapability(this.pci, BAR, BAR_SIZE, this.#bar);
    this.#msix.addCapability(this.pci, BAR, Offset.msixTable, Offset.msixPending);
  }

  #newSession(): DriverSession {
    const session: DriverSession = new DriverSession(this.#host.memory, this.#common.negotiatedFeatures(), {
      queueUsed: (index) => this.#interrupt(this.#common.queueVector(index), ISR_QUEUE),
      wired: (index, event) => this.#wires.connect(index, event),
      doorbellsChanged: () => {
        // Somebody else may serve the queues now, who is not to be meddled with.
        this.#watched.clear();
        this.#moveDoorbells(this.#barAddress);
      },
      configChanged: () => {
        this.#common.raiseGeneration();
        this.#interrupt(this.#common.configVector, ISR_CONFIG);
      },
      serveSoon: (index) => this.#serveSoon(session, index),
      failed: (error) => this.#fail(error),
    });
    return session;
  }

  /** Throws VirtqueueError. */
  #makeQueues(session: DriverSession): void {
    for (let i = 0; i < this.#device.queueSizes.length; i++) {
      const layout = this.#common.queueLayout(i);
      session.queues.push(layout && new Virtqueue(this.#host.memory, layout));
    }
  }

  #activate(): void {
    const session = this.#newSession();
    this.#session = session;
    try {
      this.#makeQueues(session);
      this.#device.activate(session);
    } catch (error) {
      session.fail(error);
      return;
    }
    this.#moveDoorbells(this.#barAddress);
    // The driver may have rung before the doorbells were there.
    for (let i = 0; i < session.queues.length; i++) this.#serve(i);
  }

  #serve(index: number): void {
    const session = this.#session;
    if (this.#isHeld || !session?.queues[index]) return;
    try {
      if (this.#device.serve(index)) this.#serveSoon(session, index);
    } catch (error) {
      session.fail(error);
    }
  }

  #rung(index: number): void {
    const queue = this.#session?.queues[index];
    if (queue && !this.#isHeld && this.#device.isPolled?.(index)) this.#watched.rung(index, queue);
    this.#serve(index);
  }

  #serveSoon(session: DriverSession, index: number): void {
    if (session.waiting.has(index)) return;
    session.waiting.add(index);
    setImmediate(() => {
      session.waiting.delete(index);
      if (session === this.#session) this.#serve(index);
    });
  }

  /** Of the session there is. */
  #fail(error: unknown): void {
    this.#session = null;
    this.#watched.clear();
    this.#dropDoorbells();
    this.#wires.drop();
    this.#common.setNeedsReset();
    this.#interrupt(this.#common.configVector, ISR_CONFIG);
    this.#host.onFault(this.#device.name, error instanceof Error ? error : new Error(String(error)));
  }

  #resetDevice(): void {
    this.#session?.end();
    this.#session = null;
    this.#watched.clear();
    this.#dropDoorbells();
    const atRest = this.#device.reset();
    this.#wires.drop();
    this.#isr = 0;
    if (atRest === undefined) this.#common.finishReset();
    else this.#rest = atRest.then(() => this.#common.finishReset());
  }

  /** Doorbells are there while the driver is ready and the BAR answers; without, the write exits to the BAR. */
  #moveDoorbells(address: number | null): void {
    this.#dropDoorbells();
    this.#barAddress = address;
    if (address === null || !this.#session) return;
    try {
      this.#session.queues.forEach((queue, i) => {
        if (!queue) return;
        const doorbell = address + Offset.notify + i * NOTIFY_MULTIPLIER;
        const { doorbells } = this.#host;
        const fd = this.#device.doorbellFd?.(i);
        this.#doorbells.push(
          fd === undefined
            ? doorbells.assign("mmio", doorbell, 0, () => this.#rung(i))
            : doorbells.assignTo("mmio", doorbell, 0, fd),
        );
      });
    } catch (error) {
      this.#host.onFault(this.#device.name, error instanceof Error ? error : new Error(String(error)));
    }
  }

  #dropDoorbells(): void {
    for (const doorbell of this.#doorbells) doorbell[Symbol.dispose]();
    this.#doorbells = [];
  }

  /** Section 4.1.4.5: without MSI-X a driver polls this; reading it clears it. */
  #readIsr(data: Uint8Array): void {
    data[0] = this.#isr;
    this.#isr = 0;
  }

  #interrupt(vector: number, isrBit: number): void {
    if (this.#msix.enabled) this.#msix.trigger(vector);
    else this.#isr |= isrBit;
  }
}

interface SessionEvents {
  queueUsed(index: number): void;
  wired(index: number, event: EventFd): Disposable;
  doorbellsChanged(): void;
  configChanged(): void;
  serveSoon(index: number): void;
  failed(error: unknown): void;
}

class DriverSession implements VirtioDriver {
  readonly memory: GuestMemory;
  readonly features: FeatureBits;
  readonly queues: (Virtqueue | undefined)[] = [];
  /** Queues that are served again when others had their turn. */
  readonly waiting = new Set<number>();
  readonly #events: SessionEvents;
  #isLive = true;

  constructor(memory: GuestMemory, features: FeatureBits, events: SessionEvents) {
    this.memory = memory;
    this.features = features;
    this.#events = events;
  }

  get isLive(): boolean {
    return this.#isLive;
  }

  end(): void {
    this.#isLive = false;
  }

  queue(index: number): Virtqueue | undefined {
    return this.queues[index];
  }

  serveSoon(index: number): void {
    if (this.#isLive) this.#events.serveSoon(index);
  }

  signalUsed(index: number): void {
    if (this.#isLive && this.queues[index]?.takeInterrupt()) this.#events.queueUsed(index);
  }

  interruptBy(index: number, event: EventFd): Disposable {
    return this.#isLive ? this.#events.wired(index, event) : { [Symbol.dispose]() {} };
  }

  doorbellsChanged(): void {
    if (this.#isLive) this.#events.doorbellsChanged();
  }

  signalConfigChange(): void {
    if (this.#isLive) this.#events.configChanged();
  }

  fail(error: unknown): void {
    if (!this.#isLive) return;
    this.#isLive = false;
    this.#events.failed(error);
  }
}
