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
import { NetworkInterface } from "../virtio/net/interfaces.ts";
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
  /** What goes wrong with a device after the guest gave it up. */
  readonly onCloseError: (device: string, error: unknown) => void;
}

/** What comes to a running guest, and goes again. */
export type HotDevice = Disk | NetworkInterface;

/** All devices of a machine, at their ports and addresses. */
export class Devices {
  readonly ports = new AddressSpace("ports");
  readonly mmio = new AddressSpace("mmio");
  readonly #legacy: LegacyDevices;
  readonly #pci: PciRoot;
  readonly #hotplug: PciHotplug;
  readonly #virtio: VirtioDevices;
  readonly #onCloseError: DevicesRequest["onCloseError"];

  /** Throws PciSpaceError where there are too many. */
  constructor({ board, console, events, virtio, pciPorts, onCloseError }: DevicesRequest) {
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
    this.#onCloseError = onCloseError;
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

  /** Puts one more on the bus, and tells the guest. Throws PciSpaceError. */
  plug(device: HotDevice): void {
    const slot = this.#pci.add(device.pciDevice);
    device.isNews = true;
    if (device instanceof NetworkInterface) this.#virtio.interfaces.add(device);
    else this.#virtio.disks.add(device);
    this.#hotplug.plug(slot);
  }

  /** Asks the guest to give one up. */
  askForEject(device: HotDevice): void {
    const slot = this.#pci.slotOf(device.pciDevice);
    device.isUnwanted = true;
    // Else it was ejected, and is being closed.
    if (slot > 0) this.#hotplug.askForEject(slot);
  }

  /**
   * As after power-on. Resolves when no device touches guest memory any more. What the guest was to give up is gone then,
   * and what came stays.
   */
  async reset(): Promise<void> {
    this.#legacy.reset();
    this.#hotplug.reset();
    await this.#pci.reset();
    const all = this.#hotDevices;
    await Promise.all(all.filter(({ isUnwanted }) => isUnwanted).map((device) => this.#takeOut(device)));
    for (const device of all) device.isNews = false;
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
        const hot = this.#hotDeviceOf(device);
        return {
          slot,
          device: device.save(),
          isUnwanted: hot?.isUnwanted ?? false,
          isNews: hot?.isNews ?? false,
          storage: hot && "storage" in hot ? hot.storage.saveState() : new Uint8Array(0),
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
      const hot = this.#hotDeviceOf(device);
      if (hot && "storage" in hot) refusing(hot.name, () => hot.storage.restoreState(saved.storage, version));
      if (hot) Object.assign(hot, { isUnwanted: saved.isUnwanted, isNews: saved.isNews });
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

  get #hotDevices(): readonly HotDevice[] {
    return [...this.#virtio.interfaces.all, ...this.#virtio.disks.all];
  }

  #hotDeviceOf(device: PciDevice): HotDevice | undefined {
    return this.#hotDevices.find(({ pciDevice }) => pciDevice === device);
  }

  #ejected(slot: number): void {
    const device = this.#hotDevices.find(({ pciDevice }) => this.#pci.slotOf(pciDevice) === slot);
    if (device) void this.#takeOut(device);
  }

  /** Off the bus at once; it is known until its storage, or its link, is closed. */
  async #takeOut(device: HotDevice): Promise<void> {
    const slot = this.#pci.slotOf(device.pciDevice);
    if (slot > 0) this.#pci.remove(slot);
    try {
      await device.close();
    } catch (error) {
      this.#onCloseError(device.name, error);
    }
    if (device instanceof NetworkInterface) this.#virtio.interfaces.remove(device);
    else this.#virtio.disks.remove(device);
  }

  /** Finishes what is under way, and closes the disks. No vCPU is in the guest, and none will be. */
  async close(): Promise<void> {
    this.#legacy[Symbol.dispose]();
    await this.#pci.reset();
    await this.#virtio.close();
  }
}
