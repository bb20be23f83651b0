import * as layout from "../boot/x86/layout.ts";
import { refusing, StateRefused } from "../codec/state-refused.ts";
import type { CharacterBackend } from "../legacy/character-backend.ts";
import { LegacyDevices } from "../legacy/legacy-devices.ts";
import type { MachineEvents } from "../legacy/machine-events.ts";
import { AddressSpace } from "../memory/address-space.ts";
import { PciHotplug } from "../pci/pci-hotplug.ts";
import { type PciDevice, PciRoot } from "../pci/pci-root.ts";
import type { Disk } from "../virtio/block/disk.ts";
import type { VirtioDevices } from "../virtio/create-devices.ts";
import { VirtioPciDevice } from "../virtio/transport/virtio-pci-device.ts";
import type { Board } from "./board.ts";
import type { DeviceState, DevicesState } from "./snapshot.ts";

export interface DevicesRequest {
  readonly board: Board;
  /** Where the serial port goes. */
  readonly console: CharacterBackend;
  readonly events: MachineEvents;
  /** Put into the first slots of the PCI bus, in order. */
  readonly virtio: VirtioDevices;
  /** With PCI configuration by ports as well, see PORTS.pciConfig. */
  readonly pciPorts: boolean;
  /** What goes wrong with a disk after the guest gave it up. */
  readonly onDiskError: (disk: string, error: unknown) => void;
}

/** All devices of a machine, at their ports and addresses. */
export class Devices {
  readonly ports = new AddressSpace("ports");
  readonly mmio = new AddressSpace("mmio");
  readonly #legacy: LegacyDevices;
  readonly #pci: PciRoot;
  readonly #hotplug: PciHotplug;
  readonly #virtio: VirtioDevices;
  readonly #onDiskError: DevicesRequest["onDiskError"];

  /** Throws PciSpaceError where there are too many. */
  constructor({ board, console, events, virtio, pciPorts, onDiskError }: DevicesRequest) {
    const irqLine = (gsi: number) => board.irqLine(gsi);
    const coalescedWrites = (port: number) => board.coalescedWrites(port);
    const ram = board.memory.regions;
    this.#legacy = new LegacyDevices({ ports: this.ports, irqLine, console, coalescedWrites, ram, events });
    this.#pci = new PciRoot(this.mmio, [
      { start: layout.PCI_WINDOW32, sizeBytes: layout.PCI_WINDOW32_BYTES },
      layout.pciWindow64(board.memory.regions),
    ]);
    this.mmio.add(layout.PCI_ECAM, layout.PCI_ECAM_BYTES, this.#pci.ecam);
    this.#hotplug = new PciHotplug({
      changed: () => this.#legacy.powerManagement.tellOfPciSlots(),
      ejected: (slot) => this.#ejected(slot),
    });
    const { pciConfig, pciHotplug } = layout.PORTS;
    this.ports.add(pciHotplug.start, pciHotplug.sizeBytes, this.#hotplug.ports);
    if (pciPorts) this.ports.add(pciConfig.start, pciConfig.sizeBytes, this.#pci.ports);
    this.#virtio = virtio;
    this.#onDiskError = onDiskError;
    for (const device of virtio.devices) this.#pci.add(device);
  }

  /** Before an exit is handled: what the guest wrote earlier without leaving reaches its device. */
  collectWrites(): void {
    this.#legacy.collectWrites();
  }

  /** Hands on what the guest has sent. All vCPUs are halted. */
  flush(): void {
    this.#legacy.flush();
  }

  pressPowerButton(): void {
    this.#legacy.powerManagement.pressPowerButton();
  }

  /** Puts a disk on the bus, and tells the guest. Throws PciSpaceError. */
  plug(disk: Disk): void {
    const slot = this.#pci.add(disk.pciDevice);
    disk.isNews = true;
    this.#virtio.disks.add(disk);
    this.#hotplug.plug(slot);
  }

  /** Asks the guest to give a disk up. */
  askForEject(disk: Disk): void {
    const slot = this.#pci.slotOf(disk.pciDevice);
    disk.isUnwanted = true;
    // Else it was ejected, and is being closed.
    if (slot > 0) this.#hotplug.askForEject(slot);
  }

  /**
   * As after power-on. Resolves when no device touches guest memory any more. Disks that the guest was to give up are gone
   * then, and those that came stay.
   */
  async reset(): Promise<void> {
    this.#legacy.reset();
    this.#hotplug.reset();
    await this.#pci.reset();
    const { all } = this.#virtio.disks;
    await Promise.all(all.filter(({ isUnwanted }) => isUnwanted).map((disk) => this.#takeOut(disk)));
    for (const disk of all) disk.isNews = false;
  }

  /**
   * Nothing of the devices goes on until `release`, and none touches guest memory. All vCPUs are halted. Where it does not
   * resolve, because a disk waits for room say, `release` takes it back.
   */
  async hold(): Promise<void> {
    this.#legacy.hold();
    await Promise.all(this.#onBus.map(({ device }) => device.hold()));
  }

  /** All go on, with what came meanwhile too. */
  release(): void {
    this.#legacy.release();
    for (const { device } of this.#onBus) device.release();
  }

  /** While they are held. */
  save(): DevicesState {
    const bridge = this.#pci.bridge?.save() ?? { configuration: new Uint8Array(0), bootAddresses: [] };
    return {
      legacy: this.#legacy.save(),
      bus: { configAddress: this.#pci.configAddress, bridge, hotplug: this.#hotplug.save() },
      slots: this.#onBus.map(({ slot, device }) => {
        const disk = this.#diskOf(device);
        return {
          slot,
          device: device.save(),
          isUnwanted: disk?.isUnwanted ?? false,
          isNews: disk?.isNews ?? false,
          storage: disk?.storage.saveState() ?? new Uint8Array(0),
        };
      }),
    };
  }

  /**
   * Goes on as the saved ones, held until `release`. Of devices that are as after power-on, on a board that was restored.
   * Throws StateRefused.
   */
  restore(state: DevicesState, version: number): void {
    this.#putIntoSlots(state.slots);
    refusing("PCI bus", () => this.#pci.bridge?.restore(state.bus.bridge));
    this.#pci.configAddress = state.bus.configAddress;
    this.#hotplug.restore(state.bus.hotplug);
    for (const { slot, device } of this.#onBus) {
      const saved = state.slots.find((each) => each.slot === slot);
      if (!saved) throw new StateRefused(device.device.name, "was not saved");
      device.restore(saved.device, version);
      const disk = this.#diskOf(device);
      if (disk) refusing(disk.name, () => disk.storage.restoreState(saved.storage, version));
      if (disk) Object.assign(disk, { isUnwanted: saved.isUnwanted, isNews: saved.isNews });
    }
    this.#legacy.restore(state.legacy);
  }

  /** Disks that came while the guest ran sit behind the others, wherever the configuration names them now. */
  #putIntoSlots(saved: readonly DeviceState[]): void {
    const here = new Map(this.#onBus.map(({ device }) => [device.device.name, device]));
    const slots = new Map<PciDevice, number>();
    for (const { slot, device } of saved) {
      const found = here.get(device.name);
      if (!found) throw new StateRefused(device.name, "this machine's configuration does not have it; add it");
      slots.set(found, slot);
      here.delete(device.name);
    }
    const [extra] = here.keys();
    if (extra !== undefined) throw new StateRefused(extra, "it was not saved; take it out of the configuration");
    refusing("PCI bus", () => this.#pci.rearrange(slots));
  }

  get #onBus(): { readonly slot: number; readonly device: VirtioPciDevice }[] {
    return this.#pci.occupied.flatMap(({ slot, device }) =>
      device instanceof VirtioPciDevice ? [{ slot, device }] : [],
    );
  }

  #diskOf(device: PciDevice): Disk | undefined {
    return this.#virtio.disks.all.find(({ pciDevice }) => pciDevice === device);
  }

  #ejected(slot: number): void {
    const disk = this.#virtio.disks.all.find(({ pciDevice }) => this.#pci.slotOf(pciDevice) === slot);
    if (disk) void this.#takeOut(disk);
  }

  /** Off the bus at once; it is among the disks until its storage is closed. */
  async #takeOut(disk: Disk): Promise<void> {
    const slot = this.#pci.slotOf(disk.pciDevice);
    if (slot > 0) this.#pci.remove(slot);
    try {
      await disk.close();
    } catch (error) {
      this.#onDiskError(disk.name, error);
    }
    this.#virtio.disks.remove(disk);
  }

  /** Finishes what is under way, and closes the disks. No vCPU is in the guest, and none will be. */
  async close(): Promise<void> {
    this.#legacy[Symbol.dispose]();
    await this.#pci.reset();
    await this.#virtio.close();
  }
}
