import type { IrqLine } from "../kvm/interrupts.ts";
import type { CharacterBackend, CharacterSink } from "./character-backend.ts";
import type { MachineEvents, PanicKind } from "./machine-events.ts";

/** For tests: an interrupt line that remembers its level and counts its rising edges. */
export class RecordingIrq implements IrqLine {
  asserted = false;
  edges = 0;

  setLevel(asserted: boolean): void {
    if (asserted && !this.asserted) this.edges++;
    this.asserted = asserted;
  }
}

/** For tests: keeps what a guest sends, and feeds what it is given whenever the device has room. */
export class RecordingBackend implements CharacterBackend {
  text = "";
  calls = 0;
  #sink: CharacterSink | null = null;
  #waiting = new Uint8Array(0);

  output(bytes: Uint8Array): void {
    this.calls++;
    this.text += new TextDecoder("latin1").decode(bytes);
  }

  connect(sink: CharacterSink): void {
    this.#sink = sink;
    sink.onDrain(() => this.#feed());
  }

  type(text: string): void {
    this.#waiting = Uint8Array.from([...this.#waiting, ...new TextEncoder().encode(text)]);
    this.#feed();
  }

  get waiting(): string {
    return new TextDecoder().decode(this.#waiting);
  }

  #feed(): void {
    const taken = this.#sink?.input(this.#waiting) ?? 0;
    this.#waiting = this.#waiting.subarray(taken);
  }
}

/** One byte read from a device, as a guest's `in` does. */
export function readByte(device: { read(offset: number, data: Uint8Array): void }, offset: number): number {
  const data = new Uint8Array(1);
  device.read(offset, data);
  return data[0] ?? 0;
}

export function writeByte(device: { write(offset: number, data: Uint8Array): void }, offset: number, value: number) {
  device.write(offset, Uint8Array.of(value));
}

/** For tests: the events in the order they came. */
export class RecordingEvents implements MachineEvents {
  seen: (PanicKind | "power-off" | "reset")[] = [];

  onPowerOff(): void {
    this.seen.push("power-off");
  }

  onReset(): void {
    this.seen.push("reset");
  }

  onPanic(kind: PanicKind): void {
    this.seen.push(kind);
  }
}
