import { StateRefused } from "../codec/state-refused.ts";
import type { RangeHandler } from "../memory/address-space.ts";
import type { PciFunctionState } from "./state.ts";

/** Bytes of conventional configuration space; the extended part of a function without PCI Express reads as zero. */
export const CONFIG_SPACE_SIZE = 256;

// Offsets of the type 0 header (PCI Local Bus 3.0, section 6.1).
const VENDOR_ID = 0x00;
const COMMAND = 0x04;
const STATUS = 0x06;
const REVISION_ID = 0x08;
const HEADER_TYPE = 0x0e;
const BAR0 = 0x10;
const BAR_END = 0x28;
const SUBSYSTEM_VENDOR_ID = 0x2c;
const CAPABILITIES_POINTER = 0x34;
const INTERRUPT_LINE = 0x3c;
const FIRST_CAPABILITY = 0x40;

const COMMAND_MEMORY = 1 << 1;
/** Memory decoding, bus master, parity and SERR reporting, INTx disable. There are no I/O BARs. */
const COMMAND_WRITABLE = COMMAND_MEMORY | (1 << 2) | (1 << 6) | (1 << 8) | (1 << 10);
const STATUS_CAPABILITY_LIST = 1 << 4;
const BAR_TYPE_MEMORY_64 = 0b100;

export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revision: number;
  /** Base class, subclass and programming interface, 24 bit. */
  readonly classCode: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
}

/** A 64-bit memory BAR as its device declares it. */
export interface BarDefinition {
  /** Register number, 0, 2 or 4; the BAR takes two registers. */
  readonly index: number;
  /** A power of two, at least 4 KiB so that no page holds two BARs. */
  readonly sizeBytes: number;
  readonly handler: RangeHandler;
  /** Told where the BAR answers now; null when it answers nowhere. */
  readonly onMoved?: (address: number | null) => void;
}

/** Registers of a capability that do more than hold what was written. Offsets count from the capability's start. */
export interface CapabilityHooks {
  /** Called with the stored bytes in `data`, which it may replace. */
  read?(offset: number, data: Uint8Array): void;
  /** Called after the stored bytes took the write. */
  written?(offset: number, data: Uint8Array): void;
}

interface Capability {
  readonly start: number;
  readonly end: number;
  readonly hooks: CapabilityHooks;
}

/**
 * One PCI function: its configuration space, capability list and BARs. BAR registers hold what the guest wrote; where
 * a BAR answers is decided by the bus, from `decodedAddress`, after each write that `onDecodeChanged` tells of.
 */
export class PciFunction {
  readonly #bytes = new Uint8Array(CONFIG_SPACE_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #writable = new Uint8Array(CONFIG_SPACE_SIZE);
  readonly #capabilities: Capability[] = [];
  readonly #bars: BarDefinition[] = [];
  /** Where each BAR of `#bars` is put at reset; 0 until the bus gave it a place. */
  readonly #bootAddresses: number[] = [];
  #capabilitiesEnd = FIRST_CAPABILITY;
  #lastCapabilityLink = CAPABILITIES_POINTER;

  /** Set by the bus that the function sits on. */
  onDecodeChanged: () => void = () => {};

  constructor(identity: PciIdentity) {
    this.#view.setUint16(VENDOR_ID, identity.vendorId, true);
    this.#view.setUint16(VENDOR_ID + 2, identity.deviceId, true);
    this.#view.setUint32(REVISION_ID, ((identity.classCode << 8) | identity.revision) >>> 0, true);
    this.#view.setUint8(HEADER_TYPE, 0);
    this.#view.setUint16(SUBSYSTEM_VENDOR_ID, identity.subsystemVendorId, true);
    this.#view.setUint16(SUBSYSTEM_VENDOR_ID + 2, identity.subsystemId, true);
    this.#setWritable(COMMAND, COMMAND_WRITABLE, 2);
    this.#setWritable(INTERRUPT_LINE, 0xff, 1);
  }

  get bars(): readonly BarDefinition[] {
    return this.#bars;
  }

  /**
   * Appends a capability: `body` follows the id and next bytes; bits set in `writable` (as long as `body`) take writes.
   * Answers its offset in configuration space. Throws RangeError when the space is full.
   */
  addCapability(id: number, body: Uint8Array, writable?: Uint8Array, hooks: CapabilityHooks = {}): number {
    const start = this.#capabilitiesEnd;
    const end = start + 2 + body.length;
    if (end > CONFIG_SPACE_SIZE) throw new RangeError("PCI capability list is full");
    this.#bytes[start] = id;
    this.#bytes[start + 1] = 0;
    this.#bytes.set(body, start + 2);
    if (writable) this.#writable.set(writable, start + 2);
    this.#bytes[this.#lastCapabilityLink] = start;
    this.#lastCapabilityLink = start + 1;
    this.#capabilitiesEnd = (end + 3) & ~3;
    this.#capabilities.push({ start, end, hooks });
    this.#view.setUint16(STATUS, STATUS_CAPABILITY_LIST, true);
    return start;
  }

  addBar(definition: BarDefinition): void {
    const { index, sizeBytes } = definition;
    if (![0, 2, 4].includes(index) || this.#bars.some((bar) => bar.index === index))
      throw new RangeError(`PCI BAR ${index} cannot be added`);
    if (sizeBytes < 4096 || !Number.isInteger(Math.log2(sizeBytes)) || sizeBytes > 2 ** 31)
      throw new RangeError(`PCI BAR size ${sizeBytes} is not a power of two from 4 KiB to 2 GiB`);
    const register = BAR0 + 4 * index;
    this.#setWritable(register, -sizeBytes >>> 0, 4);
    this.#setWritable(register + 4, 0xffffffff, 4);
    this.#view.setUint32(register, BAR_TYPE_MEMORY_64, true);
    this.#bars.push(definition);
    this.#bootAddresses.push(0);
  }

  /** Puts a BAR where the guest shall find it, now and after each reset. */
  setBootAddress(bar: BarDefinition, address: number): void {
    this.#bootAddresses[this.#bars.indexOf(bar)] = address;
    this.#writeBarRegisters(bar.index, address);
  }

  bootAddress(bar: BarDefinition): number {
    return this.#bootAddresses[this.#bars.indexOf(bar)] ?? 0;
  }

  /** The address in a BAR's registers while memory decoding is on; null while it is off. */
  decodedAddress(index: number): number | null {
    if ((this.#view.getUint16(COMMAND, true) & COMMAND_MEMORY) === 0) return null;
    const register = BAR0 + 4 * index;
    const low = (this.#view.getUint32(register, true) & ~0xf) >>> 0;
    return this.#view.getUint32(register + 4, true) * 2 ** 32 + low;
  }

  /** Configuration read of 1, 2 or 4 bytes; `offset + data.length` may reach into the extended space. */
  read(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) data[i] = this.#bytes[offset + i] ?? 0;
    const capability = this.#capabilityAt(offset, data.length);
    capability?.hooks.read?.(offset - capability.start, data);
  }

  /** Configuration write; read-only bits keep their value. */
  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const mask = this.#writable[offset + i] ?? 0;
      const kept = (this.#bytes[offset + i] ?? 0) & ~mask;
      if (offset + i < CONFIG_SPACE_SIZE) this.#bytes[offset + i] = kept | ((data[i] ?? 0) & mask);
    }
    const end = offset + data.length;
    if ((offset < COMMAND + 2 && end > COMMAND) || (offset < BAR_END && end > BAR0)) this.onDecodeChanged();
    const capability = this.#capabilityAt(offset, data.length);
    capability?.hooks.written?.(offset - capability.start, data);
  }

  /** Stored bytes of a capability, for the device that added it: 1, 2 or 4 bytes at `offset`. */
  load(offset: number, widthBytes: 1 | 2 | 4): number {
    if (widthBytes === 1) return this.#view.getUint8(offset);
    return widthBytes === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint32(offset, true);
  }

  /** As after power-on: all that was written is cleared, so decoding is off; BARs are at their boot addresses. */
  reset(): void {
    for (let i = 0; i < CONFIG_SPACE_SIZE; i++) this.#bytes[i] = (this.#bytes[i] ?? 0) & ~(this.#writable[i] ?? 0);
    this.#bars.forEach((bar, i) => {
      this.#writeBarRegisters(bar.index, this.#bootAddresses[i] ?? 0);
    });
    this.onDecodeChanged();
  }

  save(): PciFunctionState {
    return { configuration: this.#bytes.slice(), bootAddresses: [...this.#bootAddresses] };
  }

  /**
   * Hooks of capabilities are not called: their devices restore what they stand for. Throws StateRefused where the saved
   * function is another one, in an identity or a capability.
   */
  restore({ configuration, bootAddresses }: PciFunctionState): void {
    const differs = (at: number) => {
      const readOnly = ~(this.#writable[at] ?? 0) & 0xff;
      return (((configuration[at] ?? 0) ^ (this.#bytes[at] ?? 0)) & readOnly) !== 0;
    };
    for (let at = 0; at < CONFIG_SPACE_SIZE; at++)
      if (differs(at)) throw new StateRefused("PCI configuration", `byte 0x${at.toString(16)} is another device's`);
    if (bootAddresses.length !== this.#bars.length)
      throw new StateRefused("PCI configuration", `${bootAddresses.length} BARs instead of ${this.#bars.length}`);
    for (let at = 0; at < CONFIG_SPACE_SIZE; at++) {
      const mask = this.#writable[at] ?? 0;
      this.#bytes[at] = ((this.#bytes[at] ?? 0) & ~mask) | ((configuration[at] ?? 0) & mask);
    }
    bootAddresses.forEach((address, i) => {
      this.#bootAddresses[i] = address;
    });
    this.onDecodeChanged();
  }

  #writeBarRegisters(index: number, address: number): void {
    const register = BAR0 + 4 * index;
    this.#view.setUint32(register, ((address % 2 ** 32) | BAR_TYPE_MEMORY_64) >>> 0, true);
    this.#view.setUint32(register + 4, Math.floor(address / 2 ** 32), true);
  }

  #capabilityAt(offset: number, lengthBytes: number): Capability | undefined {
    return this.#capabilities.find(({ start, end }) => offset < end && offset + lengthBytes > start);
  }

  #setWritable(offset: number, mask: number, widthBytes: number): void {
    for (let i = 0; i < widthBytes; i++) this.#writable[offset + i] = (mask >>> (8 * i)) & 0xff;
  }
}
