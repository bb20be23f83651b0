import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { KeyboardController } from "./i8042.ts";
import { RecordingEvents, readByte, writeByte } from "./testing.ts";

const OUTPUT_FULL = 0x01;
const INPUT_FULL = 0x02;

function make() {
  const events = new RecordingEvents();
  const device = new KeyboardController(events);
  const status = () => readByte(device.commandPort, 0);
  const command = (value: number) => writeByte(device.commandPort, 0, value);
  const write = (value: number) => writeByte(device.dataPort, 0, value);
  const read = () => readByte(device.dataPort, 0);
  return { events, device, status, command, write, read };
}

describe("keyboard controller", () => {
  it("takes each command at once: Linux waits for that before it asks for a reset", () => {
    const { status } = make();
    expect(status() & (INPUT_FULL | OUTPUT_FULL)).toBe(0);
  });

  it.each([
    ["its configuration", 0x20, 0x30],
    ["a passed self-test", 0xaa, 0x55],
    ["a dead keyboard port", 0xab, 0x01],
    ["a dead auxiliary port", 0xa9, 0x01],
    ["its output port", 0xd0, 0x03],
  ])("answers with %s", (_what, command, answer) => {
    const keyboard = make();
    keyboard.command(command);
    expect(keyboard.status() & OUTPUT_FULL).toBe(OUTPUT_FULL);
    expect(keyboard.read()).toBe(answer);
    expect(keyboard.status() & OUTPUT_FULL).toBe(0);
  });

  it("keeps a configuration until the reset", () => {
    const keyboard = make();
    keyboard.command(0x60);
    keyboard.write(0x47);
    keyboard.write(0x99);
    keyboard.command(0x20);
    expect(keyboard.read()).toBe(0x47);
    keyboard.device.reset();
    keyboard.command(0x20);
    expect(keyboard.read()).toBe(0x30);
  });

  it("loops keyboard bytes back, and spoils auxiliary ones so that no mouse is found", () => {
    const keyboard = make();
    keyboard.command(0xd2);
    keyboard.write(0x5a);
    expect(keyboard.read()).toBe(0x5a);
    keyboard.command(0xd3);
    keyboard.write(0x5a);
    expect(keyboard.read()).not.toBe(0x5a);
  });

  it("resets the machine by command 0xfe", () => {
    const { command, events } = make();
    command(0xfe);
    expect(events.seen).toEqual(["reset"]);
  });

  it("resets the machine by the output port, and only where the reset bit is clear", () => {
    const { command, write, events } = make();
    command(0xd1);
    write(0xdf);
    expect(events.seen).toEqual([]);
    command(0xd1);
    write(0xfe);
    expect(events.seen).toEqual(["reset"]);
  });

  it("does nothing for a pulse of other lines, a foreign command or a byte that nobody asked for", () => {
    const { command, write, status, events } = make();
    for (const value of [0xff, 0xfd, 0x00, 0xad, 0xae, 0xd4]) command(value);
    write(0xfe);
    expect([events.seen, status() & OUTPUT_FULL]).toEqual([[], 0]);
  });

  it("survives any bytes at both ports", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.boolean(), fc.nat(255))), (accesses) => {
        const { device, status } = make();
        for (const [isData, isWrite, value] of accesses) {
          const port = isData ? device.dataPort : device.commandPort;
          isWrite ? writeByte(port, 0, value) : readByte(port, 0);
          expect(status() & INPUT_FULL).toBe(0);
        }
      }),
    );
  });
});
