import { HIGH_RAM, HOLE_END } from "../boot/x86/layout.ts";
import type { RangeHandler } from "../memory/address-space.ts";
import type { MemoryRegion } from "../memory/guest-memory.ts";
import { type ByteRegisters, byteWise } from "./byte-registers.ts";

/** Registers of the MC146818 clock, and of the CMOS bytes where PC firmware looks for the size of memory. */
const CMOS = {
  seconds: 0x00,
  minutes: 0x02,
  hours: 0x04,
  dayOfWeek: 0x06,
  dayOfMonth: 0x07,
  month: 0x08,
  year: 0x09,
  statusA: 0x0a,
  statusB: 0x0b,
  statusD: 0x0d,
  baseMemory: 0x15,
  extendedMemory: 0x17,
  extendedMemoryAgain: 0x30,
  century: 0x32,
  memoryFrom16Mib: 0x34,
  memoryFrom4Gib: 0x5b,
} as const;

/** 32.768 kHz time base, 1024 Hz rate, no update in progress. */
const STATUS_A = 0x26;
/** 24 hours, binary-coded decimal, no interrupts. */
const STATUS_B = 0x02;
/** The battery is good. */
const STATUS_D = 0x80;
/** Bit 7 of the index port masks the NMI on PCs. */
const INDEX_MASK = 0x7f;
const KIB = 2 ** 10;
const BASE_MEMORY_KIB = 640;
const MAX_16_BITS = 0xffff;
const MIB16 = 16 * 2 ** 20;

/** A CMOS clock in UTC. Reads give the host's time and the size of memory; writes but the index are dropped. */
export class Cmos implements ByteRegisters {
  readonly ports: RangeHandler = byteWise(this);
  readonly #now: () => number;
  /** Bytes that stay as they are. */
  readonly #fixed: ReadonlyMap<number, number>;
  #index = 0;

  /** `now` in milliseconds since 1970, as Date.now. */
  constructor(ram: readonly MemoryRegion[], now: () => number = Date.now) {
    this.#now = now;
    this.#fixed = new Map([
      [CMOS.statusA, STATUS_A],
      [CMOS.statusB, STATUS_B],
      [CMOS.statusD, STATUS_D],
      ...memorySizes(ram),
    ]);
  }

  reset(): void {
    this.#index = 0;
  }

  /** The register that the data port shows. */
  get index(): number {
    return this.#index;
  }

  set index(value: number) {
    this.#index = value & INDEX_MASK;
  }

  readRegister(offset: number): number {
    if (offset !== 1) return 0xff;
    return this.#fixed.get(this.#index) ?? this.#readClock(this.#index);
  }

  writeRegister(offset: number, value: number): void {
    if (offset === 0) this.#index = value & INDEX_MASK;
  }

  #readClock(index: number): number {
    const time = new Date(this.#now());
    switch (index) {
      case CMOS.seconds:
        return toBcd(time.getUTCSeconds());
      case CMOS.minutes:
        return toBcd(time.getUTCMinutes());
      case CMOS.hours:
        return toBcd(time.getUTCHours());
      case CMOS.dayOfWeek:
        return time.getUTCDay() + 1;
      case CMOS.dayOfMonth:
        return toBcd(time.getUTCDate());
      case CMOS.month:
        return toBcd(time.getUTCMonth() + 1);
      case CMOS.year:
        return toBcd(time.getUTCFullYear() % 100);
      case CMOS.century:
        return toBcd(Math.floor(time.getUTCFullYear() / 100));
      default:
        return 0;
    }
  }
}

function toBcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}

/** Where each size stands, its unit and width (as SeaBIOS and OVMF read it). */
function memorySizes(ram: readonly MemoryRegion[]): [number, number][] {
  const lowEnd = ram[0]?.sizeBytes ?? 0;
  const highBytes = ram.filter((region) => region.gpa >= HOLE_END).reduce((sum, region) => sum + region.sizeBytes, 0);
  const extendedKib = Math.min(Math.max(lowEnd - HIGH_RAM, 0) / KIB, MAX_16_BITS);
  const from16Mib = Math.min(Math.max(lowEnd - MIB16, 0) / (64 * KIB), MAX_16_BITS);
  return [
    ...number(CMOS.baseMemory, BASE_MEMORY_KIB, 2),
    ...number(CMOS.extendedMemory, extendedKib, 2),
    ...number(CMOS.extendedMemoryAgain, extendedKib, 2),
    ...number(CMOS.memoryFrom16Mib, from16Mib, 2),
    ...number(CMOS.memoryFrom4Gib, highBytes / (64 * KIB), 3),
  ];
}

function number(index: number, value: number, sizeBytes: number): [number, number][] {
  return Array.from({ length: sizeBytes }, (_, i) => [index + i, Math.floor(value / 2 ** (8 * i)) & 0xff]);
}
