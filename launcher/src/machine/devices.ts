import * as layout from "../boot/x86/layout.ts";
import type { CharacterBackend } from "../legacy/character-backend.ts";
import { LegacyDevices } from "../legacy/legacy-devices.ts";
import type { MachineEvents } from "../legacy/machine-events.ts";
import { AddressSpace } from "../memory/address-space.ts";
import { PciRoot } from "../pci/pci-root.ts";
import type { VirtioDevices } from "../virtio/create-devices.ts";
import type { Board } from "./board.ts";

export interface DevicesRequest {
  readonly board: Board;
  /** Where the serial port goes. */
  readonly console: CharacterBackend;
  readonly events: MachineEvents;
  /** Put into the first slots of the PCI bus, in order. */
  readonly virtio: VirtioDevices;
  /** With PCI configuration by ports as well, see PORTS.pciConfig. */
  readonly pciPorts: boolean;
}

/** All devices of a machine, at their ports and addresses. */
export class Devices {
  readonly ports = new AddressSpace("ports");
  readonly mmio = new AddressSpace("mmio");
  readonly #legacy: LegacyDevices;
  readonly #pci: PciRoot;
  readonly #virtio: VirtioDevices;

  /** Throws PciSpaceError where there are too many. */
  constructor({ board, console, events, virtio, pciPorts }: DevicesRequest) {
    const irqLine = (gsi: number) => board.irqLine(gsi);
    const coalescedWrites = (port: number) => board.coalescedWrites(port);
    const ram = board.memory.regions;
    this.#legacy = new LegacyDevices({ ports: this.ports, irqLine, console, coalescedWrites, ram, events });
    this.#pci = new PciRoot(this.mmio, [
      { start: layout.PCI_WINDOW32, sizeBytes: layout.PCI_WINDOW32_BYTES },
      layout.pciWindow64(board.memory.regions),
    ]);
    this.mmio.add(layout.PCI_ECAM, layout.PCI_ECAM_BYTES, this.#pci.ecam);
    const { pciConfig } = layout.PORTS;
    if (pciPorts) this.ports.add(pciConfig.start, pciConfig.sizeBytes, this.#pci.ports);
    this.#virtio = virtio;
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

  /** As after power-on. Resolves when no device touches guest memory any more. */
  async reset(): Promise<void> {
    this.#legacy.reset();
    await this.#pci.reset();
  }

  /** Finishes what is under way, and closes the disks. No vCPU is in the guest, and none will be. */
  async close(): Promise<void> {
    this.#legacy[Symbol.dispose]();
    await this.#pci.reset();
    await this.#virtio.close();
  }
}
