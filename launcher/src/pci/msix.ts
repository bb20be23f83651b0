import { StateRefused } from "../codec/state-refused.ts";
import type { MsiMessage, MsiSink } from "../kvm/interrupts.ts";
import type { PciFunction } from "./pci-function.ts";
import type { MsixState } from "./state.ts";

/** PCI Local Bus 3.0, section 6.8.2. */
export const CAPABILITY_ID_MSIX = 0x11;
export const MSIX_ENTRY_SIZE = 16;
/** Most vectors that the 11-bit table size field can say. */
export const MSIX_MAX_VECTORS = 2048;

const CONTROL_ENABLE = 1 << 15;
const CONTROL_FUNCTION_MASK = 1 << 14;
const VECTOR_MASKED = 1;

// Dwords of a table entry.
const ADDRESS_LOW = 0;
const ADDRESS_HIGH = 1;
const DATA = 2;
const VECTOR_CONTROL = 3;

/**
 * MSI-X of one function: table, pending bits and message control. A vector that is triggered while masked stays
 * pending and is sent once when its mask, the vector's or the function's, is lifted.
 */
export class Msix {
  readonly vectorCount: number;
  readonly #sink: MsiSink;
  readonly #table: Uint32Array;
  readonly #tableBytes: Uint8Array;
  readonly #pending: Uint8Array;
  #enabled = false;
  #functionMasked = false;
  /** Something changed about where a vector's messages go. */
  onChange: () => void = () => {};
  /** Before somebody looks at the pending bits. */
  beforePendingRead: () => void = () => {};

  /** `vectorCount` is 1 to MSIX_MAX_VECTORS. */
  constructor(vectorCount: number, sink: MsiSink) {
    if (!Number.isInteger(vectorCount) || vectorCount < 1 || vectorCount > MSIX_MAX_VECTORS)
      throw new RangeError(`MSI-X with ${vectorCount} vectors`);
    this.vectorCount = vectorCount;
    this.#sink = sink;
    this.#table = new Uint32Array(vectorCount * 4);
    this.#tableBytes = new Uint8Array(this.#table.buffer);
    this.#pending = new Uint8Array(Math.ceil(vectorCount / 64) * 8);
    this.reset();
  }

  get enabled(): boolean {
    return this.#enabled;
  }

  get tableSizeBytes(): number {
    return this.#tableBytes.length;
  }

  get pendingSizeBytes(): number {
    return this.#pending.length;
  }

  /** Adds the capability; table and pending bits are found at the given offsets (multiples of 8) of BAR `bar`. */
  addCapability(pci: PciFunction, bar: number, tableOffset: number, pendingOffset: number): void {
    const body = new DataView(new ArrayBuffer(10));
    body.setUint16(0, this.vectorCount - 1, true);
    body.setUint32(2, tableOffset | bar, true);
    body.setUint32(6, pendingOffset | bar, true);
    const writable = new Uint8Array(10);
    writable[1] = (CONTROL_ENABLE | CONTROL_FUNCTION_MASK) >>> 8;
    const start: number = pci.addCapability(CAPABILITY_ID_MSIX, new Uint8Array(body.buffer), writable, {
      written: () => this.setControl(pci.load(start + 2, 2)),
    });
  }

  /** Takes the message control register. */
  setControl(control: number): void {
    this.#enabled = (control & CONTROL_ENABLE) !== 0;
    this.#functionMasked = (control & CONTROL_FUNCTION_MASK) !== 0;
    this.#sendAllPending();
    this.onChange();
  }

  /** What a vector sends now; null where that is nothing: masked, off, unknown, or no interrupt. */
  message(vector: number): MsiMessage | null {
    if (vector >= this.vectorCount || !this.#enabled || this.#isMasked(vector)) return null;
    const addressLow = this.#dword(vector, ADDRESS_LOW);
    if (!isInterrupt(addressLow)) return null;
    return { addressLow, addressHigh: this.#dword(vector, ADDRESS_HIGH), data: this.#dword(vector, DATA) };
  }

  /** Sends a vector's message, or makes it pending while masked. Dropped when MSI-X is off or the vector unknown. */
  trigger(vector: number): void {
    if (vector >= this.vectorCount || !this.#enabled) return;
    if (this.#isMasked(vector)) this.#setPending(vector, true);
    else this.#send(vector);
  }

  /** Any width and alignment; what lies beyond the table reads as zero. */
  readTable(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) data[i] = this.#tableBytes[offset + i] ?? 0;
  }

  /** Any width and alignment; what lies beyond the table is dropped. */
  writeTable(offset: number, data: Uint8Array): void {
    const end = Math.min(offset + data.length, this.#tableBytes.length);
    for (let at = offset; at < end; at++) this.#tableBytes[at] = data[at - offset] ?? 0;
    for (let vector = Math.floor(offset / MSIX_ENTRY_SIZE); vector * MSIX_ENTRY_SIZE < end; vector++)
      this.#sendIfPending(vector);
    this.onChange();
  }

  readPending(offset: number, data: Uint8Array): void {
    this.beforePendingRead();
    for (let i = 0; i < data.length; i++) data[i] = this.#pending[offset + i] ?? 0;
  }

  /** MSI-X off, all vectors masked, nothing pending. */
  reset(): void {
    this.#enabled = false;
    this.#functionMasked = false;
    this.#table.fill(0);
    for (let vector = 0; vector < this.vectorCount; vector++) this.#table[4 * vector + VECTOR_CONTROL] = VECTOR_MASKED;
    this.#pending.fill(0);
  }

  save(): MsixState {
    return {
      table: this.#tableBytes.slice(),
      pending: this.#pending.slice(),
      enabled: this.#enabled,
      functionMasked: this.#functionMasked,
    };
  }

  /** Sends nothing. Throws StateRefused where the state has another number of vectors. */
  restore(state: MsixState): void {
    if (state.table.length !== this.#tableBytes.length || state.pending.length !== this.#pending.length)
      throw new StateRefused(
        "MSI-X",
        `a table of ${state.table.length} bytes was saved for ${this.vectorCount} vectors`,
      );
    this.#tableBytes.set(state.table);
    this.#pending.set(state.pending);
    this.#enabled = state.enabled;
    this.#functionMasked = state.functionMasked;
  }

  #isMasked(vector: number): boolean {
    return this.#functionMasked || (this.#dword(vector, VECTOR_CONTROL) & VECTOR_MASKED) !== 0;
  }

  #send(vector: number): void {
    const low = this.#dword(vector, ADDRESS_LOW);
    if (isInterrupt(low)) this.#sink.signalMsi(low, this.#dword(vector, ADDRESS_HIGH), this.#dword(vector, DATA));
  }

  #sendAllPending(): void {
    for (let vector = 0; vector < this.vectorCount; vector++) this.#sendIfPending(vector);
  }

  #sendIfPending(vector: number): void {
    if (!this.#enabled || this.#isMasked(vector) || !this.#isPending(vector)) return;
    this.#setPending(vector, false);
    this.#send(vector);
  }

  #isPending(vector: number): boolean {
    return (((this.#pending[vector >>> 3] ?? 0) >>> (vector & 7)) & 1) === 1;
  }

  #setPending(vector: number, pending: boolean): void {
    const bit = 1 << (vector & 7);
    const byte = this.#pending[vector >>> 3] ?? 0;
    this.#pending[vector >>> 3] = pending ? byte | bit : byte & ~bit;
  }

  #dword(vector: number, dword: number): number {
    return this.#table[4 * vector + dword] ?? 0;
  }
}

/** Interrupt messages go to 0xfeexxxxx (Intel SDM volume 3, section 11.11.1); elsewhere they would be plain writes. */
function isInterrupt(addressLow: number): boolean {
  return addressLow >>> 20 === 0xfee;
}
