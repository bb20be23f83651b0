import type { CoalescedWrites } from "../kvm/coalesced-port.ts";
import type { RangeHandler } from "../memory/address-space.ts";
import type { SerialPort } from "./serial.ts";
import { SERIAL } from "./serial-registers.ts";

/** How long output stays with KVM; with the serial port's own delay still too short for a person to notice. */
const COLLECT_MS = 10;
const PERIOD_MS = 500;
/** So many writes that left the guest within a period are worth it: no typist's echo is. */
const LOUD_WRITES = 64;
/** With fewer bytes in a period it ends, and an idle guest costs no timer. */
const QUIET_BYTES = 32;
/** After a driver was found to wait for interrupts that come late by it. */
const BACK_OFF_MS = 1000;

/**
 * Spares a guest that prints much the way out for each character: KVM keeps what it writes to the data register, and
 * whoever looks at the serial port first collects that. So all other registers see every write before them; only the
 * "transmitter empty" interrupt is late. Linux asks the port again before it waits for that. A driver that does not
 * shows when a timer's collection raises the interrupt, and is served as before then.
 */
export class SerialCoalescing implements Disposable {
  /** The serial port's. */
  readonly ports: RangeHandler;
  readonly #serial: SerialPort;
  /** Null where the host's KVM cannot. */
  readonly #writes: CoalescedWrites | null;
  #periodStartMs = 0;
  /** Data in this period: writes that left the guest, or bytes that KVM kept. */
  #amount = 0;
  #notBeforeMs = 0;
  /** Invariant: runs exactly while #writes is on. */
  #timer: NodeJS.Timeout | undefined;

  constructor(serial: SerialPort, writes: CoalescedWrites | null) {
    this.#serial = serial;
    this.#writes = writes;
    this.ports = {
      read: (offset, data) => serial.ports.read(offset, data),
      write: (offset, data) => {
        serial.ports.write(offset, data);
        if (offset === SERIAL.data) this.#noteExit();
      },
    };
  }

  /** Brings the serial port up to date: before each exit is handled, and once the vCPUs are halted. */
  collect(): void {
    if (this.#writes?.isOn) this.#hand(this.#writes.take());
  }

  /** Each write leaves the guest again; what was kept is with the serial port. */
  stop(): void {
    if (!this.#writes?.isOn) return;
    clearInterval(this.#timer);
    this.#writes.stop();
    this.#hand(this.#writes.take());
    this.#amount = 0;
  }

  #hand(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#amount += bytes.length;
    this.#serial.writeData(bytes);
  }

  #noteExit(): void {
    if (!this.#writes || this.#writes.isOn) return;
    const nowMs = performance.now();
    if (nowMs - this.#periodStartMs > PERIOD_MS) this.#startPeriod(nowMs);
    if (++this.#amount < LOUD_WRITES || nowMs < this.#notBeforeMs) return;
    this.#writes.start();
    this.#startPeriod(nowMs);
    this.#timer = setInterval(() => this.#onTimer(), COLLECT_MS);
    this.#timer.unref();
  }

  #onTimer(): void {
    const wasInterrupting = this.#serial.isInterrupting;
    this.collect();
    const nowMs = performance.now();
    if (!wasInterrupting && this.#serial.isInterrupting) {
      this.#notBeforeMs = nowMs + BACK_OFF_MS;
      this.stop();
    } else if (nowMs - this.#periodStartMs > PERIOD_MS) {
      if (this.#amount < QUIET_BYTES) this.stop();
      this.#startPeriod(nowMs);
    }
  }

  #startPeriod(nowMs: number): void {
    this.#periodStartMs = nowMs;
    this.#amount = 0;
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}
