import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { GSI, PORTS, ramRegions } from "../boot/x86/layout.ts";
import { AddressSpace } from "../memory/address-space.ts";
import { LegacyDevices } from "./legacy-devices.ts";
import { PmTimer } from "./pm-timer.ts";
import { RecordingBackend, RecordingEvents, RecordingIrq } from "./testing.ts";

function make() {
  const ports = new AddressSpace("ports");
  const irqs = new Map<number, RecordingIrq>();
  const irqLine = (gsi: number) => {
    const irq = new RecordingIrq();
    irqs.set(gsi, irq);
    return irq;
  };
  const events = new RecordingEvents();
  const backend = new RecordingBackend();
  const ram = ramRegions(64 * 2 ** 20);
  const coalescedWrites = () => null;
  const devices = new LegacyDevices({ ports, irqLine, console: backend, coalescedWrites, ram, events });
  const read = (port: number, widthBytes: 1 | 2 | 4 = 1) => {
    const data = new Uint8Array(widthBytes);
    ports.read(port, data);
    return data.reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
  };
  const write = (port: number, ...data: number[]) => ports.write(port, Uint8Array.from(data));
  return { ports, irqs, events, backend, devices, read, write };
}

describe("the legacy devices of a machine", () => {
  it("answer at their ports", () => {
    const { read, write, events, backend, devices } = make();
    write(0x3f8, 0x41);
    devices.serial.flush();
    expect(backend.text).toBe("A");
    expect(read(0x64)).toBe(0x04);
    write(0x70, 0x0d);
    expect(read(0x71)).toBe(0x80);
    expect(read(0x505)).toBe(0x03);
    write(0x80, 0x5a);
    expect(read(0x80)).toBe(0x5a);
    write(0x505, 0x01);
    write(0x505, 0x02);
    write(0x600, 0x06);
    write(0x601, 0x34);
    expect(events.seen).toEqual(["panicked", "crash-loaded", "reset", "power-off"]);
  });

  it("leave the ports of KVM's interrupt controllers and timer alone", () => {
    const { read } = make();
    for (const port of [0x20, 0x21, 0x40, 0x43, 0x61, 0xa0, 0xa1, 0x4d0, 0x4d1]) expect(read(port)).toBe(0xff);
  });

  it("have the interrupt lines that the ACPI tables name", () => {
    const { irqs, devices } = make();
    devices.powerManagement.pressPowerButton();
    expect([...irqs].map(([gsi, irq]) => [gsi, irq.asserted])).toEqual([
      [GSI.com1, false],
      [GSI.ged, true],
    ]);
    devices.reset();
    expect(irqs.get(GSI.ged)?.asserted).toBe(false);
  });

  it("hand on what was sent, and free their ports, when they are disposed", () => {
    const { devices, backend, read, write } = make();
    write(0x3f8, 0x42);
    devices[Symbol.dispose]();
    expect([backend.text, read(0x3fd)]).toEqual(["B", 0xff]);
  });

  it("survive any access of any width at any port", () => {
    const starts = Object.values(PORTS).flatMap(({ start, sizeBytes }) =>
      Array.from({ length: sizeBytes + 2 }, (_, i) => start - 1 + i),
    );
    const access = fc.record({
      port: fc.constantFrom(...starts),
      data: fc.constantFrom(1, 2, 4, 8).chain((length) => fc.uint8Array({ minLength: length, maxLength: length })),
      isWrite: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(access), (accesses) => {
        const { ports, devices } = make();
        for (const { port, data, isWrite } of accesses) isWrite ? ports.write(port, data) : ports.read(port, data);
        devices[Symbol.dispose]();
      }),
    );
  });
});

describe("the power-management timer", () => {
  it("counts at 3.579545 MHz in 32 bits", () => {
    let nowMs = 1000;
    const timer = new PmTimer(() => nowMs).ports;
    const read = () => {
      const data = new Uint8Array(4);
      timer.read(0, data);
      return new DataView(data.buffer).getUint32(0, true);
    };
    expect(read()).toBe(3_579_545);
    nowMs = 2 ** 32 / 3579.545 + 1;
    expect(read()).toBe(3579);
    const data = new Uint8Array(2);
    timer.read(3, data);
    expect(data[1]).toBe(0xff);
  });
});
