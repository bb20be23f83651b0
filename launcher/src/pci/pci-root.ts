import { PCI_SLOTS } from "../boot/x86/layout.ts";
import type { AddressSpace, RangeHandler } from "../memory/address-space.ts";
import { type BarDefinition, PciFunction } from "./pci-function.ts";

/** A device as the bus sees it. */
export interface PciDevice {
  readonly pci: PciFunction;
  /** Back to the state of power-on; resolves when nothing of the device touches guest memory any more. */
  reset(): Promise<void>;
}

/** Guest-physical range that BARs may lie in. The machine keeps RAM and whatever else answers out of it. */
export interface MmioWindow {
  readonly start: number;
  readonly sizeBytes: number;
}

/** Ports of configuration mechanism #1 (PCI Local Bus 3.0, section 3.2.2.3.2): address at 0xcf8, data at 0xcfc. */
export const PCI_CONFIG_PORT = 0xcf8;
export const PCI_CONFIG_PORT_COUNT = 8;

/**
 * Cloud Hypervisor's host bridge: EDK2's build for that machine knows it by the device id and halts at any other
 * (OvmfPkg/Include/IndustryStandard/CloudHv.h). No driver binds to it.
 */
const HOST_BRIDGE = {
  vendorId: 0x8086,
  deviceId: 0x0d57,
  revision: 0,
  classCode: 0x060000,
  subsystemVendorId: 0x1af4,
  subsystemId: 0x1100,
};

/** ECAM: 32 KiB a device, 4 KiB a function (PCI Express Base 4.0, section 7.2.2). */
const ECAM_FUNCTION_SHIFT = 12;
const ECAM_FUNCTIONS_OF_BUS0 = PCI_SLOTS * 8;
const CONFIG_ADDRESS_ENABLE = 0x80000000;
const CONFIG_ADDRESS_WRITABLE = 0x80fffffc;

/** The bus has no free slot, or the windows no room for a BAR. */
export class PciSpaceError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "PciSpaceError";
  }
}

interface MappedBar {
  readonly device: PciDevice;
  readonly bar: BarDefinition;
  address: number;
  mapping: Disposable;
}

/**
 * Bus 0 of one PCI Express root complex, with the host bridge at 00:00.0 and one function a slot.
 * BARs answer where the guest put them, as long as the whole BAR lies in a window and nothing else answers there;
 * a BAR that is elsewhere, moved over another one say, answers nowhere until there is room.
 */
export class PciRoot {
  readonly #mmio: AddressSpace;
  readonly #windows: readonly MmioWindow[];
  readonly #slots: (PciDevice | undefined)[] = new Array(PCI_SLOTS).fill(undefined);
  #mapped: MappedBar[] = [];
  #configAddress = 0;

  /** `windows` in the order of preference for BARs at boot. */
  constructor(mmio: AddressSpace, windows: readonly MmioWindow[]) {
    this.#mmio = mmio;
    this.#windows = windows;
    const bridge = new PciFunction(HOST_BRIDGE);
    this.#slots[0] = {
      pci: bridge,
      reset: async () => bridge.reset(),
    };
  }

  /**
   * Puts a device into `slot`, or into the first free one, and its BARs where there is room; answers the slot.
   * May be called while the guest runs. Throws PciSpaceError.
   */
  add(device: PciDevice, slot = this.#slots.indexOf(undefined)): number {
    if (slot < 1 || slot >= PCI_SLOTS)
      throw new PciSpaceError(`the PCI bus takes ${PCI_SLOTS - 1} devices; remove disks or devices`);
    if (this.#slots[slot]) throw new PciSpaceError(`PCI slot ${slot} is taken`);
    this.#slots[slot] = device;
    try {
      for (const bar of device.pci.bars) device.pci.setBootAddress(bar, this.#allocate(bar.sizeBytes));
    } catch (error) {
      this.#slots[slot] = undefined;
      throw error;
    }
    device.pci.onDecodeChanged = () => this.#remap();
    return slot;
  }

  /** Where a device sits; -1 when it is not on the bus. */
  slotOf(device: PciDevice): number {
    return this.#slots.indexOf(device);
  }

  /** Devices by their slots, the host bridge apart. */
  get occupied(): readonly { readonly slot: number; readonly device: PciDevice }[] {
    return this.#slots.flatMap((device, slot) => (device && slot > 0 ? [{ slot, device }] : []));
  }

  /** The register at PCI_CONFIG_PORT. */
  get configAddress(): number {
    return this.#configAddress >>> 0;
  }

  set configAddress(value: number) {
    this.#configAddress = value & CONFIG_ADDRESS_WRITABLE;
  }

  /** The host bridge's function. */
  get bridge(): PciFunction | undefined {
    return this.#slots[0]?.pci;
  }

  /** Puts the devices there are into other slots. Before the guest runs: it does not notice. */
  rearrange(slots: ReadonlyMap<PciDevice, number>): void {
    const devices = this.#slots.map((device, slot) => (slot === 0 ? device : undefined));
    for (const [device, slot] of slots) {
      if (slot < 1 || slot >= PCI_SLOTS || devices[slot]) throw new PciSpaceError(`PCI slot ${slot} is taken, or none`);
      if (!this.#slots.includes(device)) throw new PciSpaceError("a device that is not on the bus");
      devices[slot] = device;
    }
    devices.forEach((device, slot) => {
      this.#slots[slot] = device;
    });
    this.#remap();
  }

  /** Takes a device off the bus; the caller resets it. */
  remove(slot: number): void {
    const device = this.#slots[slot];
    if (slot === 0 || !device) throw new PciSpaceError(`no device in PCI slot ${slot}`);
    this.#slots[slot] = undefined;
    device.pci.onDecodeChanged = () => {};
    this.#remap();
  }

  /** As after power-on; resolves when no device touches guest memory any more. */
  async reset(): Promise<void> {
    this.#configAddress = 0;
    await Promise.all(this.#slots.map((device) => device?.reset()));
  }

  /** The enhanced configuration access area, from bus 0 on. */
  readonly ecam: RangeHandler = {
    read: (offset, data) => {
      const pci = this.#functionAt(Math.floor(offset / 2 ** ECAM_FUNCTION_SHIFT));
      if (pci && isConfigAccess(offset, data)) pci.read(offset % 2 ** ECAM_FUNCTION_SHIFT, data);
      else data.fill(0xff);
    },
    write: (offset, data) => {
      const pci = this.#functionAt(Math.floor(offset / 2 ** ECAM_FUNCTION_SHIFT));
      if (pci && isConfigAccess(offset, data)) pci.write(offset % 2 ** ECAM_FUNCTION_SHIFT, data);
    },
  };

  /** The eight ports from PCI_CONFIG_PORT on. */
  readonly ports: RangeHandler = {
    read: (offset, data) => {
      if (offset === 0 && data.length === 4)
        new DataView(data.buffer, data.byteOffset).setUint32(0, this.#configAddress, true);
      else if (offset >= 4) this.#dataPort(offset - 4, data, (pci, register) => pci.read(register, data));
      else data.fill(0xff);
    },
    write: (offset, data) => {
      // Only a whole dword reaches the address register: a byte at 0xcf9 is another device's on PCs.
      if (offset === 0 && data.length === 4)
        this.configAddress = new DataView(data.buffer, data.byteOffset).getUint32(0, true);
      else if (offset >= 4) this.#dataPort(offset - 4, data, (pci, register) => pci.write(register, data));
    },
  };

  #dataPort(offset: number, data: Uint8Array, access: (pci: PciFunction, register: number) => void): void {
    const address = this.#configAddress;
    const pci = (address & CONFIG_ADDRESS_ENABLE) !== 0 ? this.#functionAt((address >>> 8) & 0xffff) : undefined;
    if (pci && isConfigAccess(offset, data)) access(pci, (address & 0xfc) + offset);
    else data.fill(0xff);
  }

  /** `index` is bus, device and function number in 16 bits. Only function 0 of a slot exists. */
  #functionAt(index: number): PciFunction | undefined {
    return index < ECAM_FUNCTIONS_OF_BUS0 && index % 8 === 0 ? this.#slots[index / 8]?.pci : undefined;
  }

  /** Makes what answers agree with what the registers say: first all that left, then all that fits. */
  #remap(): void {
    this.#mapped = this.#mapped.filter((mapped) => {
      const { device, bar } = mapped;
      if (this.#slots.includes(device) && device.pci.decodedAddress(bar.index) === mapped.address) return true;
      mapped.mapping[Symbol.dispose]();
      bar.onMoved?.(null);
      return false;
    });
    for (const device of this.#slots)
      for (const bar of device?.pci.bars ?? []) {
        const address = device?.pci.decodedAddress(bar.index) ?? null;
        if (device && address !== null && !this.#mapped.some((mapped) => mapped.bar === bar))
          this.#map(device, bar, address);
      }
  }

  #map(device: PciDevice, bar: BarDefinition, address: number): void {
    const inWindow = this.#windows.some(
      ({ start, sizeBytes }) => address >= start && address + bar.sizeBytes <= start + sizeBytes,
    );
    const taken = this.#mapped.some(
      (other) => address < other.address + other.bar.sizeBytes && other.address < address + bar.sizeBytes,
    );
    if (!inWindow || taken) return;
    this.#mapped.push({ device, bar, address, mapping: this.#mmio.add(address, bar.sizeBytes, bar.handler) });
    bar.onMoved?.(address);
  }

  /** First fit among the boot addresses of all devices and what is mapped now, aligned to the size. */
  #allocate(sizeBytes: number): number {
    const taken = this.#mapped.map(({ bar, address }) => ({ start: address, sizeBytes: bar.sizeBytes }));
    for (const device of this.#slots)
      for (const bar of device?.pci.bars ?? [])
        taken.push({ start: device?.pci.bootAddress(bar) ?? 0, sizeBytes: bar.sizeBytes });
    for (const window of this.#windows) {
      const end = window.start + window.sizeBytes;
      for (let at = Math.ceil(window.start / sizeBytes) * sizeBytes; at + sizeBytes <= end; at += sizeBytes)
        if (!taken.some((other) => at < other.start + other.sizeBytes && other.start < at + sizeBytes)) return at;
    }
    throw new PciSpaceError(`no room for a PCI BAR of ${sizeBytes} bytes`);
  }
}

/** Configuration accesses are 1, 2 or 4 bytes and do not cross a dword. */
function isConfigAccess(offset: number, data: Uint8Array): boolean {
  return data.length <= 4 && (offset % 4) + data.length <= 4;
}
