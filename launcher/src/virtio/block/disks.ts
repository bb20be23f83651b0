import type { DiskStatus } from "../../../api/control.ts";
import type { Disk } from "./disk.ts";
import type { DiskUse } from "./disk-use.ts";

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

type RoomListener = (disk: string, isFull: boolean) => void;

/** The disks of a machine, for those who look after it. */
export class Disks {
  readonly #disks: Disk[];
  #onRoomChange: RoomListener = () => {};
  /** Settled when no disk grows. */
  #growing: Promise<unknown> = Promise.resolve();

  /** In the order of the configuration. */
  constructor(disks: readonly Disk[]) {
    this.#disks = [...disks];
  }

  get all(): readonly Disk[] {
    return this.#disks;
  }

  /** Behind the others. */
  add(disk: Disk): void {
    this.#disks.push(disk);
    this.#listenTo(disk);
  }

  remove(disk: Disk): void {
    const index = this.#disks.indexOf(disk);
    if (index >= 0) this.#disks.splice(index, 1);
  }

  find(name: string): Disk | undefined {
    return this.#disks.find((disk) => disk.name === name);
  }

  /** Throws UnknownDisk. */
  get(name: string): Disk {
    const disk = this.find(name);
    if (disk) return disk;
    throw new UnknownDisk(
      name,
      this.#disks.map((each) => each.name),
    );
  }

  status(): readonly DiskStatus[] {
    return this.#disks.map(({ status }) => status);
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
  onRoomChange(listener: RoomListener): void {
    this.#onRoomChange = listener;
    for (const disk of this.#disks) this.#listenTo(disk);
  }

  #listenTo({ name, storage }: Disk): void {
    const tell = this.#onRoomChange;
    storage.listener = { full: () => tell(name, true), room: () => tell(name, false) };
  }

  /** Tries at once what waits for room. */
  retry(): void {
    for (const { storage } of this.#disks) storage.retry();
  }

  /** See Disk.limitOverlay. Throws UnknownDisk or DiskError. */
  limitOverlay(name: string, bytes: number): void {
    this.get(name).limitOverlay(bytes);
  }

  /** See Disk.grow. Rejects with UnknownDisk or DiskError. */
  async grow(name: string, sizeBytes: number): Promise<void> {
    const disk = this.get(name);
    // One after the other: the larger of two sizes asked for at the same time must win.
    const grown = this.#growing.then(() => disk.grow(sizeBytes));
    this.#growing = grown.catch(() => {});
    await grown;
  }
}
