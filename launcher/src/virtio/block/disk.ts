import { getSystemErrorName } from "node:util";
import type { DiskState, DiskStatus, OverlayStatus } from "../../../api/control.ts";
import type { DiskConfig } from "../../../api/machine-config.ts";
import { DiskError } from "../../storage/disk-error.ts";
import type { OverlayBudget } from "../../storage/overlay-budget.ts";
import type { PatientDisk } from "../../storage/patient-disk.ts";
import type { TrackedDisk } from "../../storage/tracked-disk.ts";
import type { VirtioPciDevice } from "../transport/virtio-pci-device.ts";
import type { BlockDevice } from "./device.ts";

export interface DiskParts {
  readonly config: DiskConfig;
  /** Below `storage`. */
  readonly tracked: TrackedDisk;
  readonly storage: PatientDisk;
  readonly device: BlockDevice;
  /** `device` on the PCI bus. */
  readonly pciDevice: VirtioPciDevice;
}

/** One disk of a machine, from its storage to its place on the PCI bus. */
export class Disk {
  readonly config: DiskConfig;
  readonly tracked: TrackedDisk;
  readonly storage: PatientDisk;
  readonly device: BlockDevice;
  readonly pciDevice: VirtioPciDevice;
  /** The guest was asked to give it up. */
  isUnwanted = false;
  /** It came while the guest ran, which may not have found it yet. */
  isNews = false;
  #closing: Promise<void> | undefined;

  constructor({ config, tracked, storage, device, pciDevice }: DiskParts) {
    this.config = config;
    this.tracked = tracked;
    this.storage = storage;
    this.device = device;
    this.pciDevice = pciDevice;
  }

  get name(): string {
    return this.config.name;
  }

  get state(): DiskState {
    if (this.isUnwanted) return "Detaching";
    return this.isNews && !this.device.hadDriver ? "Attaching" : "Attached";
  }

  get status(): DiskStatus {
    const { sizeBytes, readOnly, overlay } = this.storage;
    const common = { name: this.name, sizeBytes, readOnly, state: this.state };
    return overlay ? { ...common, overlay: overlayStatus(overlay) } : common;
  }

  /** How much its overlay may take from now on. Throws DiskError. */
  limitOverlay(bytes: number): void {
    const { overlay } = this.storage;
    if (!overlay) throw new DiskError(this.name, "it has no overlay to limit: it is not the disk of an image");
    overlay.limitBytes = bytes;
    this.storage.retry();
  }

  /** See Storage.grow; the driver is told when it resolves. Rejects with DiskError. */
  async grow(sizeBytes: number): Promise<void> {
    const { storage, device } = this;
    const before = storage.sizeBytes;
    if (!storage.grow) throw new DiskError(this.name, "the disk of an image has the size that its image has");
    await storage.grow(sizeBytes);
    if (storage.sizeBytes !== before) device.sizeChanged();
  }

  /** What the disk has taken is durable when it resolves. Rejects with DiskError. */
  flush(): Promise<void> {
    if (this.storage.readOnly) return Promise.resolve();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const fail = (errno: number) =>
      reject(new DiskError(this.name, `it cannot be flushed (${getSystemErrorName(-errno)}); see its storage`));
    this.storage.flush({ completed: (errno) => (errno === 0 ? resolve() : fail(errno)) });
    return promise;
  }

  /** Waits for what is under way and closes the storage, once. The guest cannot reach the device any more. */
  close(): Promise<void> {
    this.#closing ??= this.pciDevice.reset().then(() => this.storage.close());
    return this.#closing;
  }
}

function overlayStatus({ usedBytes, limitBytes, isFull }: OverlayBudget): OverlayStatus {
  return { usedBytes, ...(Number.isFinite(limitBytes) && { limitBytes }), isFull };
}
