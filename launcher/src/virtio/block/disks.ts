import type { DiskStatus } from "../../../api/control.ts";
import { DiskError } from "../../storage/disk-error.ts";
import type { PatientDisk } from "../../storage/patient-disk.ts";
import type { BlockDevice } from "./device.ts";
import type { DiskUse } from "./disk-use.ts";

export interface Disk {
  readonly name: string;
  readonly storage: PatientDisk;
  readonly device: BlockDevice;
}

export interface DiskReport {
  readonly name: string;
  readonly sizeBytes: number;
  /** Its storage has no room, and writes wait. */
  readonly isFull: boolean;
  readonly operations: DiskUse["operations"];
}

/** No disk of the machine has that name. */
export class UnknownDisk extends Error {
  readonly disk: string;
  constructor(disk: string, known: readonly string[]) {
    super(`there is no disk ${disk}; known are ${known.join(", ") || "none"}`);
    this.name = "UnknownDisk";
    this.disk = disk;
  }
}

/** The disks of a machine, for those who look after it. */
export class Disks {
  readonly #disks: readonly Disk[];
  /** Settled when no disk grows. */
  #growing: Promise<unknown> = Promise.resolve();

  /** In the order of the configuration. */
  constructor(disks: readonly Disk[]) {
    this.#disks = disks;
  }

  status(): readonly DiskStatus[] {
    return this.#disks.map(({ name, storage }) => ({
      name,
      sizeBytes: storage.sizeBytes,
      readOnly: storage.readOnly,
    }));
  }

  /** What each has done, in order. */
  use(): readonly DiskReport[] {
    return this.#disks.map(({ name, storage, device }) => ({
      name,
      sizeBytes: storage.sizeBytes,
      isFull: storage.isFull,
      operations: device.use.operations,
    }));
  }

  /** Names of those whose storage is full, so that writes wait. */
  get full(): readonly string[] {
    return this.#disks.filter(({ storage }) => storage.isFull).map(({ name }) => name);
  }

  /** `listener` is told of each disk that comes into `full` or leaves it. There is one listener. */
  onRoomChange(listener: (disk: string, isFull: boolean) => void): void {
    for (const { name, storage } of this.#disks)
      storage.listener = { full: () => listener(name, true), room: () => listener(name, false) };
  }

  /** Tries at once what waits for room. */
  retry(): void {
    for (const { storage } of this.#disks) storage.retry();
  }

  /** See Storage.grow; the driver is told when it resolves. Rejects with UnknownDisk or DiskError. */
  async grow(name: string, sizeBytes: number): Promise<void> {
    const disk = this.#disks.find((each) => each.name === name);
    if (!disk)
      throw new UnknownDisk(
        name,
        this.#disks.map((each) => each.name),
      );
    // One after the other: the larger of two sizes asked for at the same time must win.
    const grown = this.#growing.then(() => growNow(disk, sizeBytes));
    this.#growing = grown.catch(() => {});
    await grown;
  }
}

async function growNow({ name, storage, device }: Disk, sizeBytes: number): Promise<void> {
  const before = storage.sizeBytes;
  if (!storage.grow) throw new DiskError(name, "the disk of an image has the size that its image has");
  await storage.grow(sizeBytes);
  if (storage.sizeBytes !== before) device.sizeChanged();
}
