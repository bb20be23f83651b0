import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import type { CoalescedWrites } from "../kvm/coalesced-port.ts";
import { SerialPort } from "./serial.ts";
import { SerialCoalescing } from "./serial-coalescing.ts";
import { RecordingBackend, RecordingIrq, readByte, writeByte } from "./testing.ts";

const DATA = 0;
const INTERRUPT_ENABLE = 1;
const INTERRUPT_ID = 2;
const LINE_CONTROL = 3;
const MODEM_CONTROL = 4;
const LINE_STATUS = 5;
const OUT2 = 0x08;
const TRANSMITTER_EMPTY = 0x02;

/** What KVM does, with a ring as short as a test likes. */
class FakeWrites implements CoalescedWrites {
  isOn = false;
  kept: number[] = [];
  start(): void {
    this.isOn = true;
  }
  stop(): void {
    this.isOn = false;
  }
  take(): Uint8Array {
    return Uint8Array.from(this.kept.splice(0));
  }
}

function setUp() {
  const irq = new RecordingIrq();
  const backend = new RecordingBackend();
  const serial = new SerialPort(irq, backend);
  const writes = new FakeWrites();
  const coalescing = new SerialCoalescing(serial, writes);
  let exits = 0;
  const guest = {
    print: (text: string) => {
      for (const byte of Buffer.from(text)) {
        if (writes.isOn) writes.kept.push(byte);
        else guest.write(DATA, byte);
      }
    },
    write: (register: number, value: number) => {
      exits++;
      coalescing.collect();
      writeByte(coalescing.ports, register, value);
    },
    read: (register: number) => {
      exits++;
      coalescing.collect();
      return readByte(coalescing.ports, register);
    },
  };
  const printed = () => {
    serial.flush();
    return backend.text;
  };
  return { irq, serial, writes, coalescing, guest, printed, exits: () => exits };
}

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

const LOUD = "x".repeat(64);

describe("coalescing of a serial port's output", () => {
  it("starts when a guest is loud, and not for one who types", () => {
    const { guest, writes, exits } = setUp();
    for (let i = 0; i < 100; i++) {
      guest.print("typed");
      jest.advanceTimersByTime(50);
    }
    expect(writes.isOn).toBe(false);
    guest.print(LOUD);
    expect(writes.isOn).toBe(true);
    const before = exits();
    guest.print(LOUD);
    expect(exits()).toBe(before);
  });

  it("shows what was kept soon, though the guest never leaves again", () => {
    const { guest, printed } = setUp();
    guest.print(`${LOUD}and more`);
    jest.advanceTimersByTime(10);
    expect(printed()).toBe(`${LOUD}and more`);
  });

  it("ends once the guest is quiet, and then nothing ticks", () => {
    const { guest, writes } = setUp();
    guest.print(LOUD);
    jest.advanceTimersByTime(2000);
    expect(writes.isOn).toBe(false);
    jest.runAllTimers();
    expect(jest.getTimerCount()).toBe(0);
  });

  it("goes on while the guest is loud", () => {
    const { guest, writes } = setUp();
    guest.print(LOUD);
    for (let i = 0; i < 100; i++) {
      guest.print("a line of a kernel's log");
      jest.advanceTimersByTime(20);
      expect(writes.isOn).toBe(true);
    }
  });

  it("loses nothing that is written while it ends", () => {
    const { guest, writes, coalescing, printed } = setUp();
    guest.print(LOUD);
    guest.print("kept ");
    const stop = writes.stop.bind(writes);
    writes.stop = () => {
      guest.print("at last");
      stop();
    };
    coalescing.stop();
    expect(printed()).toBe(`${LOUD}kept at last`);
  });

  it("gives the divisor what is written to it, not the line", () => {
    const { guest, printed } = setUp();
    guest.print(LOUD);
    guest.write(LINE_CONTROL, 0x83);
    guest.print("\x01");
    expect(guest.read(DATA)).toBe(1);
    guest.write(LINE_CONTROL, 0x03);
    guest.print("text");
    guest.read(LINE_STATUS);
    expect(printed()).toBe(`${LOUD}text`);
  });

  it("loops back what is written while it loops", () => {
    const { guest, printed } = setUp();
    guest.print(LOUD);
    guest.write(MODEM_CONTROL, 0x10);
    guest.print("L");
    expect(guest.read(LINE_STATUS) & 1).toBe(1);
    expect(guest.read(DATA)).toBe("L".charCodeAt(0));
    guest.write(MODEM_CONTROL, 0);
    expect(printed()).toBe(LOUD);
  });

  it("interrupts once for what was kept, when the driver asks the port again", () => {
    const { guest, irq, writes } = setUp();
    guest.write(MODEM_CONTROL, OUT2);
    guest.print(LOUD);
    guest.write(INTERRUPT_ENABLE, TRANSMITTER_EMPTY);
    expect(guest.read(INTERRUPT_ID) & 0x0f).toBe(TRANSMITTER_EMPTY);
    const before = irq.edges;
    guest.print("sixteen letters.");
    expect(guest.read(INTERRUPT_ID) & 0x0f).toBe(TRANSMITTER_EMPTY);
    expect(irq.edges).toBe(before + 1);
    expect(writes.isOn).toBe(true);
  });

  it("backs off from a driver that waits for the interrupt, for a while", () => {
    const { guest, irq, writes } = setUp();
    guest.write(MODEM_CONTROL, OUT2);
    guest.print(LOUD);
    guest.write(INTERRUPT_ENABLE, TRANSMITTER_EMPTY);
    guest.read(INTERRUPT_ID);
    guest.print("sixteen letters.");
    jest.advanceTimersByTime(10);
    expect(irq.asserted).toBe(true);
    expect(writes.isOn).toBe(false);
    guest.print(LOUD + LOUD);
    expect(writes.isOn).toBe(false);
    jest.advanceTimersByTime(1000);
    guest.print(LOUD);
    expect(writes.isOn).toBe(true);
  });

  it("is not there where the host's KVM cannot", () => {
    const backend = new RecordingBackend();
    const serial = new SerialPort(new RecordingIrq(), backend);
    using coalescing = new SerialCoalescing(serial, null);
    for (let i = 0; i < 200; i++) writeByte(coalescing.ports, DATA, 0x41);
    coalescing.collect();
    serial.flush();
    expect(backend.text).toBe("A".repeat(200));
  });
});
