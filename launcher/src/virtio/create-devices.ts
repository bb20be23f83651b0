import type { DiskConfig } from "../../api/machine-config.ts";
import type { CharacterBackend } from "../legacy/character-backend.ts";
import type { IoPool } from "../storage/io-pool.ts";
import { LimitedDisk } from "../storage/limited-disk.ts";
import { closeDisks, openDisks } from "../storage/open-disks.ts";
import { PatientDisk } from "../storage/patient-disk.ts";
import type { BlockDeviceOpener } from "../storage/raw-disk.ts";
import type { DiskEvents } from "../storage/storage.ts";
import { BlockDevice } from "./block/device.ts";
import { Disks } from "./block/disks.ts";
import { ConsoleDevice } from "./console/device.ts";
import { RngDevice } from "./rng/device.ts";
import { VirtioPciDevice, type VirtioPciHost } from "./transport/virtio-pci-device.ts";

export interface VirtioDeviceOptions {
  readonly host: VirtioPciHost;
  /** In PCI order. */
  readonly disks: readonly DiskConfig[];
  /** Does the I/O of the disks. */
  readonly pool: IoPool;
  /** Backend of a virtio-console; there is none without. */
  readonly console?: CharacterBackend | undefined;
  /** For block devices that this process may not open; default: it opens them. */
  readonly openBlockDevice?: BlockDeviceOpener | undefined;
  /** Told of each request that failed in a disk's storage; `errno` says why. As often as a guest makes it happen. */
  onIoError(diskName: string, errno: number): void;
  readonly diskEvents?: DiskEvents | undefined;
}

export interface VirtioDevices {
  /** For `PciRoot.add`, in this order: the disks, the entropy device, the console. */
  readonly devices: readonly VirtioPciDevice[];
  readonly disks: Disks;
  /** Waits for what is under way and closes the disks, once. The vCPUs have stopped before. */
  close(): Promise<void>;
}

/** Opens a machine's disks and makes its virtio devices. Rejects with DiskError; nothing is left open then. */
export async function createVirtioDevices(options: VirtioDeviceOptions): Promise<VirtioDevices> {
  const { host, disks, onIoError } = options;
  const opened = await openDisks(disks, options.pool, options.openBlockDevice, options.diskEvents);
  const storages = opened.map((storage, i) => {
    const limits = disks[i]?.limits;
    return new PatientDisk(limits ? new LimitedDisk(storage, limits) : storage);
  });
  const parts = storages.map((storage, i) => {
    const { name, queues } = disks[i] ?? { name: `disk ${i}`, queues: 1 };
    const device = new BlockDevice({ name, storage, queues, onIoError: (errno) => onIoError(name, errno) });
    return { name, storage, device };
  });
  const blockDevices = parts.map(({ device }) => device);
  const all = [...blockDevices, new RngDevice(), ...(options.console ? [new ConsoleDevice(options.console)] : [])];
  const devices = all.map((device) => new VirtioPciDevice(device, host));
  let closing: Promise<void> | undefined;
  const close = async () => {
    await Promise.all(devices.map((device) => device.reset()));
    await closeDisks(storages);
  };
  return {
    devices,
    disks: new Disks(parts),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}
