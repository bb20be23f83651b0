import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { PowerManagement } from "./power-management.ts";
import { RecordingEvents, RecordingIrq, readByte, writeByte } from "./testing.ts";

const [RESET, SLEEP_CONTROL, SLEEP_STATUS, EVENTS] = [0, 1, 2, 3];
const POWER_BUTTON = 1;
const PCI_SLOTS = 2;

function make() {
  const irq = new RecordingIrq();
  const events = new RecordingEvents();
  const device = new PowerManagement(irq, events);
  return { irq, events, device };
}

describe("ACPI power management", () => {
  it("resets for the FADT's reset value, powers off for what EDK2 writes there, and takes nothing else", () => {
    const { device, events } = make();
    const taken: [number, (typeof events.seen)[number]][] = [];
    for (let value = 0; value <= 0xff; value++) {
      writeByte(device.ports, RESET, value);
      taken.push(...events.seen.map((event): (typeof taken)[number] => [value, event]));
      events.seen = [];
    }
    expect(taken).toEqual([
      [0x06, "reset"],
      [0x34, "power-off"],
    ]);
  });

  it("powers off for S5 with the enable bit and nothing else", () => {
    const { device, events } = make();
    const taken = [];
    for (let value = 0; value <= 0xff; value++) {
      writeByte(device.ports, SLEEP_CONTROL, value);
      if (events.seen.length > 0) taken.push(value);
      events.seen = [];
    }
    expect(taken.map((value) => value & 0x3c)).toEqual(taken.map(() => (5 << 2) | 0x20));
    expect(taken).toHaveLength(16);
  });

  it("never reports a wake-up, nor gives back what was written", () => {
    const { device } = make();
    writeByte(device.ports, SLEEP_STATUS, 0x80);
    writeByte(device.ports, SLEEP_CONTROL, 0x04);
    expect([RESET, SLEEP_CONTROL, SLEEP_STATUS].map((offset) => readByte(device.ports, offset))).toEqual([0, 0, 0]);
  });

  it("holds the interrupt from the press of the power button until the event is read", () => {
    const { irq, device } = make();
    expect(readByte(device.ports, EVENTS)).toBe(0);
    device.pressPowerButton();
    device.pressPowerButton();
    expect(irq.asserted).toBe(true);
    expect(readByte(device.ports, EVENTS)).toBe(POWER_BUTTON);
    expect(irq.asserted).toBe(false);
    expect(readByte(device.ports, EVENTS)).toBe(0);
  });

  it("tells of changed PCI slots beside the power button, by one interrupt", () => {
    const { irq, device } = make();
    device.tellOfPciSlots();
    device.pressPowerButton();
    expect([irq.asserted, readByte(device.ports, EVENTS), irq.asserted]).toEqual([
      true,
      PCI_SLOTS | POWER_BUTTON,
      false,
    ]);
  });

  it("forgets a press at a reset", () => {
    const { irq, device } = make();
    device.pressPowerButton();
    device.reset();
    expect([irq.asserted, readByte(device.ports, EVENTS)]).toEqual([false, 0]);
  });

  it("can not be made to raise its own interrupt", () => {
    const access = fc.record({ offset: fc.nat(3), data: fc.uint8Array({ minLength: 1, maxLength: 8 }) });
    fc.assert(
      fc.property(fc.array(access), (accesses) => {
        const { irq, device } = make();
        for (const { offset, data } of accesses) device.ports.write(offset, data);
        expect([irq.asserted, readByte(device.ports, EVENTS)]).toEqual([false, 0]);
      }),
    );
  });
});
