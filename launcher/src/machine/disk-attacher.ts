import { isDeepStrictEqual } from "node:util";
import type { DiskConfig } from "../../api/machine-config.ts";
import { DiskError } from "../storage/disk-error.ts";
import type { Disk } from "../virtio/block/disk.ts";
import type { VirtioDevices } from "../virtio/create-devices.ts";
import type { Devices } from "./devices.ts";

export interface DiskAttacherParts {
  readonly virtio: VirtioDevices;
  readonly devices: Devices;
  /** Resolves when a disk can go on the bus; rejects when none ever can. */
  readonly ready: () => Promise<void>;
}

/** Adds disks to a running machine, one after the other. */
export class DiskAttacher {
  readonly #parts: DiskAttacherParts;
  /** Settled when none is under way. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: DiskAttacherParts) {
    this.#parts = parts;
  }

  /** Resolves when the disk is on the bus, from now or from before. Rejects with DiskError, PciSpaceError, or as `ready`. */
  async attach(config: DiskConfig): Promise<"attached" | "unchanged"> {
    const attached = this.#last.then(() => this.#attach(config));
    this.#last = attached.catch(() => {});
    return await attached;
  }

  async #attach(config: DiskConfig): Promise<"attached" | "unchanged"> {
    const { devices, ready, virtio } = this.#parts;
    await ready();
    const known = virtio.disks.find(config.name);
    if (known) {
      checkSame(known, config);
      return "unchanged";
    }
    const disk = await virtio.openDisk(config);
    try {
      // Opening takes its time, in which the machine may have been reset or ended.
      await ready();
      devices.plug(disk);
      return "attached";
    } catch (error) {
      await disk.close();
      throw error;
    }
  }
}

function checkSame(known: Disk, config: DiskConfig): void {
  if (known.isUnwanted)
    throw new DiskError(known.name, "the guest has not given up the earlier disk of this name yet; wait, or reset it");
  if (!isDeepStrictEqual(known.config, config))
    throw new DiskError(known.name, "the machine has another disk of this name; detach that one first");
}
