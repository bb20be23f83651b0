import type { DiskConfig } from "../../api/machine-config.ts";
import type { CharacterBackend } from "../legacy/character-backend.ts";
import { LimitedDisk } from "../storage/limited-disk.ts";
import { type DiskOpening, openDisks } from "../storage/open-disks.ts";
import { PatientDisk } from "../storage/patient-disk.ts";
import type { Storage } from "../storage/storage.ts";
import { BlockDevice } from "./block/device.ts";
import { Disk } from "./block/disk.ts";
import { Disks } from "./block/disks.ts";
import { ConsoleDevice } from "./console/device.ts";
import { RngDevice } from "./rng/device.ts";
import { VirtioPciDevice, type VirtioPciHost } from "./transport/virtio-pci-device.ts";

export interface VirtioDeviceOptions extends DiskOpening {
  readonly host: VirtioPciHost;
  /** In PCI order. */
  readonly disks: readonly DiskConfig[];
  /** Backend of a virtio-console; there is none without. */
  readonly console?: CharacterBackend | undefined;
  /** Told of each request that failed in a disk's storage; `errno` says why. As often as a guest makes it happen. */
  onIoError(diskName: string, errno: number): void;
}

export interface VirtioDevices {
  /** For `PciRoot.add`, in this order: the disks, the entropy device, the console. */
  readonly devices: readonly VirtioPciDevice[];
  readonly disks: Disks;
  /** Makes one more disk, which is not among `disks` yet. Rejects with DiskError; nothing is left open then. */
  openDisk(config: DiskConfig): Promise<Disk>;
  /** Waits for what is under way and closes the disks, once. The vCPUs have stopped before. */
  close(): Promise<void>;
}

/** Opens a machine's disks and makes its virtio devices. Rejects with DiskError; nothing is left open then. */
export async function createVirtioDevices(options: VirtioDeviceOptions): Promise<VirtioDevices> {
  const { host, console } = options;
  const disks = new Disks(await makeDisks(options.disks, options));
  const others = [new RngDevice(), ...(console ? [new ConsoleDevice(console)] : [])].map(
    (device) => new VirtioPciDevice(device, host),
  );
  let closing: Promise<void> | undefined;
  const close = async () => {
    await Promise.all([...others.map((device) => device.reset()), ...disks.all.map((disk) => disk.close())]);
  };
  return {
    devices: [...disks.all.map(({ pciDevice }) => pciDevice), ...others],
    disks,
    openDisk: async (config) => {
      const [disk] = await makeDisks([config], options);
      if (!disk) throw new TypeError("as many disks are made as were asked for");
      return disk;
    },
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

async function makeDisks(configs: readonly DiskConfig[], options: VirtioDeviceOptions): Promise<Disk[]> {
  const opened = await openDisks(configs, options);
  return opened.map(({ config, storage }) => makeDisk(config, storage, options));
}

function makeDisk(config: DiskConfig, opened: Storage, { host, onIoError }: VirtioDeviceOptions): Disk {
  const { name, queues, limits } = config;
  const storage = new PatientDisk(limits ? new LimitedDisk(opened, limits) : opened);
  const device = new BlockDevice({ name, storage, queues, onIoError: (errno) => onIoError(name, errno) });
  return new Disk({ config, storage, device, pciDevice: new VirtioPciDevice(device, host) });
}
