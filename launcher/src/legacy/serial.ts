import type { IrqLine } from "../kvm/interrupts.ts";
import type { RangeHandler } from "../memory/address-space.ts";
import { type ByteRegisters, byteWise } from "./byte-registers.ts";
import type { CharacterBackend, CharacterSink } from "./character-backend.ts";
import {
  FCR,
  IER,
  IER_WRITABLE,
  IIR,
  LCR_DLAB,
  LSR,
  MCR,
  MCR_WRITABLE,
  MSR,
  MSR_DELTA_SHIFT,
  SERIAL,
  TRIGGER_LEVELS,
} from "./serial-registers.ts";
import type { SerialState } from "./state.ts";

const FIFO_BYTES = 16;
/** Divisor 12: 9600 baud, the PC's default. Nothing here depends on it. */
const DEFAULT_DIVISOR = 12;
/** A terminal is always there. */
const CONNECTED = MSR.cts | MSR.dsr | MSR.dcd;
/** Output is handed on when this much is there or this long after its first byte: a flooding guest costs one call a buffer. */
const OUTPUT_BUFFER_BYTES = 4096;
const OUTPUT_DELAY_MS = 4;

/**
 * A 16550A that sends without delay and receives as fast as the guest reads.
 * Input that does not fit is left with the backend, so nothing overruns but in loopback.
 */
export class SerialPort implements ByteRegisters, CharacterSink, Disposable {
  /** The eight ports. */
  readonly ports: RangeHandler = byteWise(this);
  readonly #irq: IrqLine;
  readonly #backend: CharacterBackend;
  readonly #drainListeners: (() => void)[] = [];

  readonly #output = new Uint8Array(OUTPUT_BUFFER_BYTES);
  #outputLength = 0;
  #outputTimer: NodeJS.Timeout | null = null;

  readonly #received = new Uint8Array(FIFO_BYTES);
  #receivedStart = 0;
  #receivedCount = 0;

  #interruptEnable = 0;
  #fifoControl = 0;
  #lineControl = 0;
  #modemControl = 0;
  #scratch = 0;
  #divisor = DEFAULT_DIVISOR;
  #overrun = false;
  /** The holding register became empty, and the guest was not told yet. */
  #transmitterEmptyPending = false;
  #modemDeltas = 0;
  #irqAsserted = false;
  #isHeld = false;

  constructor(irq: IrqLine, backend: CharacterBackend) {
    this.#irq = irq;
    this.#backend = backend;
    backend.connect(this);
  }

  readRegister(offset: number): number {
    const latched = (this.#lineControl & LCR_DLAB) !== 0;
    switch (offset) {
      case SERIAL.data:
        return latched ? this.#divisor & 0xff : this.#receive();
      case SERIAL.interruptEnable:
        return latched ? this.#divisor >>> 8 : this.#interruptEnable;
      case SERIAL.interruptIdentification:
        return this.#identifyInterrupt();
      case SERIAL.lineControl:
        return this.#lineControl;
      case SERIAL.modemControl:
        return this.#modemControl;
      case SERIAL.lineStatus:
        return this.#readLineStatus();
      case SERIAL.modemStatus:
        return this.#readModemStatus();
      case SERIAL.scratch:
        return this.#scratch;
      default:
        return 0xff;
    }
  }

  writeRegister(offset: number, value: number): void {
    const latched = (this.#lineControl & LCR_DLAB) !== 0;
    switch (offset) {
      case SERIAL.data:
        if (latched) this.#divisor = (this.#divisor & 0xff00) | value;
        else this.#transmit(value);
        break;
      case SERIAL.interruptEnable:
        if (latched) this.#divisor = (this.#divisor & 0xff) | (value << 8);
        else this.#enableInterrupts(value & IER_WRITABLE);
        break;
      case SERIAL.fifoControl:
        this.#controlFifos(value);
        break;
      case SERIAL.lineControl:
        this.#lineControl = value;
        break;
      case SERIAL.modemControl:
        this.#controlModem(value & MCR_WRITABLE);
        break;
      case SERIAL.scratch:
        this.#scratch = value;
        break;
    }
  }

  /** Takes input for the guest, as far as the FIFO has room; in loopback the line is cut. */
  input(bytes: Uint8Array): number {
    if (this.#loopback || this.#isHeld) return 0;
    const count = Math.min(bytes.length, this.#capacity - this.#receivedCount);
    for (const byte of bytes.subarray(0, count)) this.#enqueue(byte);
    if (count > 0) this.#updateIrq();
    return Math.max(count, 0);
  }

  onDrain(listener: () => void): void {
    this.#drainListeners.push(listener);
  }

  /** Writes to the data register, oldest first, that come together: the transmitter becomes empty once, behind them. */
  writeData(bytes: Uint8Array): void {
    if ((this.#lineControl & LCR_DLAB) !== 0) {
      for (const value of bytes) this.writeRegister(SERIAL.data, value);
    } else {
      for (const value of bytes) this.#send(value);
      this.#becomeEmpty();
    }
  }

  /** Whether it asks for an interrupt right now. */
  get isInterrupting(): boolean {
    return this.#irqAsserted;
  }

  /** Hands buffered output to the backend now: before a pause, and before the process ends. */
  flush(): void {
    if (this.#outputTimer) clearTimeout(this.#outputTimer);
    this.#outputTimer = null;
    if (this.#outputLength === 0) return;
    const length = this.#outputLength;
    this.#outputLength = 0;
    this.#backend.output(this.#output.subarray(0, length));
  }

  /** Input stays with the backend until `release`. */
  hold(): void {
    this.#isHeld = true;
  }

  release(): void {
    this.#isHeld = false;
    this.#tellDrained();
  }

  /** Output was handed on before. */
  save(): SerialState {
    const received = Uint8Array.from(
      { length: this.#receivedCount },
      (_, i) => this.#received[(this.#receivedStart + i) % FIFO_BYTES] ?? 0,
    );
    return {
      received,
      interruptEnable: this.#interruptEnable,
      fifoControl: this.#fifoControl,
      lineControl: this.#lineControl,
      modemControl: this.#modemControl,
      scratch: this.#scratch,
      divisor: this.#divisor,
      overrun: this.#overrun,
      transmitterEmptyPending: this.#transmitterEmptyPending,
      modemDeltas: this.#modemDeltas,
    };
  }

  restore(state: SerialState): void {
    this.#received.set(state.received);
    this.#receivedStart = 0;
    this.#receivedCount = state.received.length;
    this.#interruptEnable = state.interruptEnable & IER_WRITABLE;
    this.#fifoControl = state.fifoControl;
    this.#lineControl = state.lineControl;
    this.#modemControl = state.modemControl & MCR_WRITABLE;
    this.#scratch = state.scratch;
    this.#divisor = state.divisor;
    this.#overrun = state.overrun;
    this.#transmitterEmptyPending = state.transmitterEmptyPending;
    this.#modemDeltas = state.modemDeltas;
    this.#updateIrq();
  }

  /** As after power-on. Output so far is handed on; input that was not read is gone. */
  reset(): void {
    this.flush();
    this.#interruptEnable = 0;
    this.#fifoControl = 0;
    this.#lineControl = 0;
    this.#modemControl = 0;
    this.#scratch = 0;
    this.#divisor = DEFAULT_DIVISOR;
    this.#overrun = false;
    this.#transmitterEmptyPending = false;
    this.#modemDeltas = 0;
    this.#clearReceived();
  }

  [Symbol.dispose](): void {
    this.flush();
  }

  get #loopback(): boolean {
    return (this.#modemControl & MCR.loop) !== 0;
  }

  get #capacity(): number {
    return (this.#fifoControl & FCR.enable) !== 0 ? FIFO_BYTES : 1;
  }

  #transmit(value: number): void {
    this.#send(value);
    this.#becomeEmpty();
  }

  #send(value: number): void {
    if (this.#loopback) {
      if (this.#receivedCount < this.#capacity) this.#enqueue(value);
      else this.#overrun = true;
    } else {
      this.#output[this.#outputLength++] = value;
      if (this.#outputLength === OUTPUT_BUFFER_BYTES) this.flush();
      else this.#outputTimer ??= setTimeout(() => this.flush(), OUTPUT_DELAY_MS);
    }
  }

  /** The register was full for no time: the line goes down and up, since its interrupt is edge triggered. */
  #becomeEmpty(): void {
    this.#transmitterEmptyPending = false;
    this.#updateIrq();
    this.#transmitterEmptyPending = true;
    this.#updateIrq();
  }

  #enqueue(value: number): void {
    this.#received[(this.#receivedStart + this.#receivedCount) % FIFO_BYTES] = value;
    this.#receivedCount++;
  }

  #receive(): number {
    if (this.#receivedCount === 0) return 0;
    const value = this.#received[this.#receivedStart] ?? 0;
    this.#receivedStart = (this.#receivedStart + 1) % FIFO_BYTES;
    this.#receivedCount--;
    this.#updateIrq();
    if (this.#receivedCount === 0) this.#tellDrained();
    return value;
  }

  #clearReceived(): void {
    this.#receivedStart = 0;
    this.#receivedCount = 0;
    this.#updateIrq();
    this.#tellDrained();
  }

  #tellDrained(): void {
    for (const listener of this.#drainListeners) listener();
  }

  #enableInterrupts(value: number): void {
    // Enabling it while the holding register is empty interrupts at once (data sheet, 8.6.3).
    if (value & ~this.#interruptEnable & IER.transmitterEmpty) this.#transmitterEmptyPending = true;
    this.#interruptEnable = value;
    this.#updateIrq();
  }

  #controlFifos(value: number): void {
    const switched = (value ^ this.#fifoControl) & FCR.enable;
    this.#fifoControl = (value & FCR.enable) === 0 ? 0 : value & ~FCR.clearReceiver;
    if (switched || value & FCR.clearReceiver) this.#clearReceived();
    else this.#updateIrq();
  }

  #controlModem(value: number): void {
    const before = this.#modemLines();
    const wasLoopback = this.#loopback;
    this.#modemControl = value;
    const changed = before ^ this.#modemLines();
    // RI counts when it falls, the other lines at each change.
    const counted = changed & ~(MSR.ri & ~before);
    this.#modemDeltas |= counted >>> MSR_DELTA_SHIFT;
    this.#updateIrq();
    if (wasLoopback && !this.#loopback) this.#tellDrained();
  }

  /** CTS, DSR, RI and DCD; in loopback they are RTS, DTR, OUT1 and OUT2. */
  #modemLines(): number {
    if (!this.#loopback) return CONNECTED;
    const control = this.#modemControl;
    return (
      (control & MCR.rts ? MSR.cts : 0) |
      (control & MCR.dtr ? MSR.dsr : 0) |
      (control & MCR.out1 ? MSR.ri : 0) |
      (control & MCR.out2 ? MSR.dcd : 0)
    );
  }

  #readModemStatus(): number {
    const status = this.#modemLines() | this.#modemDeltas;
    this.#modemDeltas = 0;
    this.#updateIrq();
    return status;
  }

  #readLineStatus(): number {
    const status =
      LSR.holdingEmpty |
      LSR.transmitterEmpty |
      (this.#receivedCount > 0 ? LSR.dataReady : 0) |
      (this.#overrun ? LSR.overrun : 0);
    this.#overrun = false;
    this.#updateIrq();
    return status;
  }

  /** Reading it acknowledges "transmitter empty" where that is what it reports (data sheet, table III). */
  #identifyInterrupt(): number {
    const source = this.#interruptSource();
    if (source === IIR.transmitterEmpty) {
      this.#transmitterEmptyPending = false;
      this.#updateIrq();
    }
    return source | (this.#fifoControl & FCR.enable ? IIR.fifosEnabled : 0);
  }

  #interruptSource(): number {
    const enabled = this.#interruptEnable;
    if (enabled & IER.lineStatus && this.#overrun) return IIR.lineStatus;
    if (enabled & IER.received && this.#receivedCount > 0) {
      const trigger = TRIGGER_LEVELS[this.#fifoControl >>> FCR.triggerShift] ?? 1;
      return this.#receivedCount >= trigger ? IIR.received : IIR.characterTimeout;
    }
    if (enabled & IER.transmitterEmpty && this.#transmitterEmptyPending) return IIR.transmitterEmpty;
    if (enabled & IER.modemStatus && this.#modemDeltas !== 0) return IIR.modemStatus;
    return IIR.none;
  }

  /** On a PC, OUT2 connects the interrupt to the controller; in loopback the pin is inactive. */
  #updateIrq(): void {
    const connected = (this.#modemControl & (MCR.out2 | MCR.loop)) === MCR.out2;
    const asserted = connected && this.#interruptSource() !== IIR.none;
    if (asserted === this.#irqAsserted) return;
    this.#irqAsserted = asserted;
    this.#irq.setLevel(asserted);
  }
}
