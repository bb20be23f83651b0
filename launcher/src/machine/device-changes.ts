import { isDeepStrictEqual } from "node:util";
import type { DiskConfig, InterfaceConfig, LinkState } from "../../api/machine-config.ts";
import { INTERFACES_MAX } from "../../api/machine-config.ts";
import type { Logger } from "../log/logger.ts";
import { NetworkError, type NetworkLink } from "../net/network-link.ts";
import { DiskError } from "../storage/disk-error.ts";
import type { Disk } from "../virtio/block/disk.ts";
import type { VirtioDevices } from "../virtio/create-devices.ts";
import type { NetworkInterface } from "../virtio/net/interfaces.ts";
import type { DeviceControls } from "./control-surface.ts";
import { type AttachableKind, DeviceAttacher } from "./device-attacher.ts";
import type { Devices, HotDevice } from "./devices.ts";

/** What may happen to the machine now; each throws IllegalTransition where it may not. */
export interface MachineChecks {
  notEnded(action: string): void;
  /** Nothing about a machine that is saved or moved may change. */
  notFrozen(action: string): void;
  /** Running or Paused. */
  alive(action: string): void;
}

export interface DeviceChangesParts {
  readonly virtio: VirtioDevices;
  readonly devices: Devices;
  /** Rejects with NetworkError. */
  readonly openLink: (config: InterfaceConfig) => Promise<NetworkLink>;
  readonly checks: MachineChecks;
  /** A reset that is under way has to be over: it gives all that is on the bus its first state. */
  readonly resetDone: () => Promise<void>;
  readonly log: Logger;
}

/** What becomes of the devices of a machine that runs. */
export class DeviceChanges implements DeviceControls {
  readonly #parts: DeviceChangesParts;
  readonly #disks: DeviceAttacher<DiskConfig, Disk>;
  readonly #interfaces: DeviceAttacher<InterfaceConfig, NetworkInterface>;

  constructor(parts: DeviceChangesParts) {
    this.#parts = parts;
    const { devices, openLink, virtio } = parts;
    const ready = () => this.#ready();
    this.#disks = new DeviceAttacher(diskKind(virtio), { devices, ready });
    this.#interfaces = new DeviceAttacher(interfaceKind(virtio, openLink), { devices, ready });
  }

  async growDisk(name: string, sizeBytes: number): Promise<void> {
    const { checks, virtio, log } = this.#parts;
    checks.notEnded("grow a disk of");
    checks.notFrozen("grow a disk of");
    await virtio.disks.grow(name, sizeBytes);
    log.info("disk has grown", { reason: "DiskGrown", disk: name, sizeBytes });
  }

  limitOverlay(name: string, bytes: number): void {
    const { checks, virtio, log } = this.#parts;
    checks.notEnded("limit the overlay of a disk of");
    virtio.disks.limitOverlay(name, bytes);
    log.info("overlay has another limit", { reason: "OverlayLimited", disk: name, bytes });
  }

  async attachDisk(config: DiskConfig): Promise<void> {
    this.#checkChangeable("attach a disk to");
    if ((await this.#disks.attach(config)) === "attached")
      this.#parts.log.info("disk is attached", { reason: "DiskAttached", disk: config.name });
  }

  detachDisk(name: string): void {
    this.#checkChangeable("detach a disk from");
    if (this.#askForEject(this.#parts.virtio.disks.get(name)))
      this.#parts.log.info("guest is asked to give up a disk", { reason: "DiskDetaching", disk: name });
  }

  async attachInterface(config: InterfaceConfig): Promise<void> {
    this.#checkChangeable("attach an interface to");
    if ((await this.#interfaces.attach(config)) === "attached")
      this.#parts.log.info("interface is attached", { reason: "InterfaceAttached", interface: config.name });
  }

  detachInterface(name: string): void {
    this.#checkChangeable("detach an interface from");
    if (this.#askForEject(this.#parts.virtio.interfaces.get(name)))
      this.#parts.log.info("guest is asked to give up an interface", { reason: "InterfaceDetaching", interface: name });
  }

  setLink(name: string, link: LinkState): void {
    const { checks, virtio, log } = this.#parts;
    checks.notEnded("change a link of");
    virtio.interfaces.setLink(name, link);
    log.info(`link is ${link}`, { reason: "LinkChanged", interface: name, link });
  }

  /** True where it was not asked before. */
  #askForEject(device: HotDevice): boolean {
    const isNew = !device.isUnwanted;
    this.#parts.devices.askForEject(device);
    return isNew;
  }

  async #ready(): Promise<void> {
    await this.#parts.resetDone();
    this.#checkChangeable("attach a device to");
  }

  #checkChangeable(action: string): void {
    this.#parts.checks.alive(action);
    this.#parts.checks.notFrozen(action);
  }
}

/** Opening rejects with DiskError. */
function diskKind(virtio: VirtioDevices): AttachableKind<DiskConfig, Disk> {
  return {
    find: (name) => virtio.disks.find(name),
    checkSame(known, config) {
      if (known.isUnwanted)
        throw new DiskError(
          known.name,
          "the guest has not given up the earlier disk of this name yet; wait, or reset it",
        );
      if (!isDeepStrictEqual(known.config, config))
        throw new DiskError(known.name, "the machine has another disk of this name; detach that one first");
    },
    open: (config) => virtio.openDisk(config),
  };
}

/** Opening rejects with NetworkError. */
function interfaceKind(
  virtio: VirtioDevices,
  openLink: DeviceChangesParts["openLink"],
): AttachableKind<InterfaceConfig, NetworkInterface> {
  const { interfaces } = virtio;
  return {
    find: (name) => interfaces.find(name),
    checkSame(known, config) {
      if (known.isUnwanted)
        throw new NetworkError(
          known.name,
          "the guest has not given up the earlier one of this name yet; wait, or reset it",
        );
      // The link's state is no part of it: it changes while the interface is there.
      if (!isDeepStrictEqual({ ...known.config, link: "up" }, { ...config, link: "up" }))
        throw new NetworkError(known.name, "the machine has another interface of this name; detach that one first");
    },
    async open(config) {
      if (interfaces.all.length >= INTERFACES_MAX)
        throw new NetworkError(config.name, `a machine has ${INTERFACES_MAX} interfaces at most; detach one first`);
      return virtio.openInterface(config, await openLink(config));
    },
  };
}
