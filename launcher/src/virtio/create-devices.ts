import { connect } from "node:net";
import type { DiskConfig, InterfaceConfig, VsockConfig } from "../../api/machine-config.ts";
import type { CharacterBackend } from "../legacy/character-backend.ts";
import type { NetworkLink } from "../net/network-link.ts";
import type { Resolver } from "../net/resolver.ts";
import { LimitedDisk } from "../storage/limited-disk.ts";
import { type DiskOpening, openDisks } from "../storage/open-disks.ts";
import { PatientDisk } from "../storage/patient-disk.ts";
import type { Storage } from "../storage/storage.ts";
import { TrackedDisk } from "../storage/tracked-disk.ts";
import { BlockDevice } from "./block/device.ts";
import { Disk } from "./block/disk.ts";
import { Disks } from "./block/disks.ts";
import { ConsoleDevice } from "./console/device.ts";
import { Interfaces, NetworkInterface } from "./net/interfaces.ts";
import { RngDevice } from "./rng/device.ts";
import { VirtioPciDevice, type VirtioPciHost } from "./transport/virtio-pci-device.ts";
import { VsockDevice } from "./vsock/device.ts";

export interface VirtioDeviceOptions extends DiskOpening {
  readonly host: VirtioPciHost;
  /** In PCI order. */
  readonly disks: readonly DiskConfig[];
  /** In PCI order, each with its link; closed with the devices, also when making them fails. */
  readonly interfaces?: readonly { readonly config: InterfaceConfig; readonly link: NetworkLink }[];
  readonly resolver?: Resolver | undefined;
  /** Backend of a virtio-console; there is none without. */
  readonly console?: CharacterBackend | undefined;
  readonly vsock?: VsockConfig | undefined;
  /** Told of each request that failed in a disk's storage; `errno` says why. As often as a guest makes it happen. */
  onIoError(diskName: string, errno: number): void;
}

export interface VirtioDevices {
  /**
   * For `PciRoot.add`, in this order: the interfaces, the disks, the entropy device, the console, the vsock. Interfaces come first
   * since guests call them by their slot: a disk more must not rename one.
   */
  readonly devices: readonly VirtioPciDevice[];
  readonly disks: Disks;
  readonly interfaces: Interfaces;
  readonly vsock: VsockDevice | null;
  /** Makes one more disk, which is not among `disks` yet. Rejects with DiskError; nothing is left open then. */
  openDisk(config: DiskConfig): Promise<Disk>;
  /**
   * Makes one more interface, which is not among `interfaces` yet. `link` is its own from now on, also when this throws
   * NetworkError.
   */
  openInterface(config: InterfaceConfig, link: NetworkLink): NetworkInterface;
  /** Waits for what is under way and closes the disks, once. The vCPUs have stopped before. */
  close(): Promise<void>;
}

/**
 * Opens a machine's disks and makes its virtio devices. Rejects with DiskError or NetworkError; nothing is left open then.
 */
export async function createVirtioDevices(options: VirtioDeviceOptions): Promise<VirtioDevices> {
  const { host, console } = options;
  const vsock = options.vsock ? makeVsock(options.vsock) : null;
  using cleanup = new DisposableStack();
  const interfaces = makeInterfaces(options, cleanup);
  const disks = new Disks(await makeDisks(options.disks, options));
  const others = [new RngDevice(), ...(console ? [new ConsoleDevice(console)] : []), ...(vsock ? [vsock] : [])].map(
    (device) => new VirtioPciDevice(device, host),
  );
  const allInterfaces = new Interfaces(interfaces);
  const logging = host.memory.dirty.watch((isOn) => allInterfaces.setLogged(isOn));
  let closing: Promise<void> | undefined;
  const close = async () => {
    logging[Symbol.dispose]();
    await Promise.all([...others.map((device) => device.reset()), ...allInterfaces.all.map((each) => each.close())]);
    await Promise.all(disks.all.map((disk) => disk.close()));
  };
  cleanup.move();
  return {
    devices: [
      ...interfaces.map(({ pciDevice }) => pciDevice),
      ...disks.all.map(({ pciDevice }) => pciDevice),
      ...others,
    ],
    disks,
    interfaces: allInterfaces,
    vsock,
    openDisk: async (config) => {
      // The machine is here when a disk is added to it.
      const [disk] = await makeDisks([config], { ...options, isIncoming: false });
      if (!disk) throw new TypeError("as many disks are made as were asked for");
      return disk;
    },
    openInterface: (config, link) => makeInterface(config, link, options),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

function makeVsock({ guestCid, socketPath }: VsockConfig): VsockDevice {
  const dial = (port: number) => connect({ path: `${socketPath}_${port}`, allowHalfOpen: true });
  return new VsockDevice({ guestCid, dial });
}

async function makeDisks(configs: readonly DiskConfig[], options: VirtioDeviceOptions): Promise<Disk[]> {
  const opened = await openDisks(configs, options);
  return opened.map(({ config, storage }) => makeDisk(config, storage, options));
}

function makeDisk(config: DiskConfig, opened: Storage, { host, onIoError }: VirtioDeviceOptions): Disk {
  const { name, queues, limits } = config;
  const tracked = new TrackedDisk(opened);
  const storage = new PatientDisk(limits ? new LimitedDisk(tracked, limits) : tracked);
  const device = new BlockDevice({ name, storage, queues, onIoError: (errno) => onIoError(name, errno) });
  return new Disk({ config, tracked, storage, device, pciDevice: new VirtioPciDevice(device, host) });
}

function makeInterfaces(options: VirtioDeviceOptions, cleanup: DisposableStack): readonly NetworkInterface[] {
  const { interfaces = [] } = options;
  for (const { link } of interfaces) cleanup.use(link);
  return interfaces.map(({ config, link }) => cleanup.use(makeInterface(config, link, options)));
}

function makeInterface(config: InterfaceConfig, link: NetworkLink, options: VirtioDeviceOptions): NetworkInterface {
  const { host, resolver = { nameservers: [], searchDomains: [] } } = options;
  return new NetworkInterface({ config, link, resolver, host });
}
