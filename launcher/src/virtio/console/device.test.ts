import { describe, expect, it } from "@jest/globals";
import type { CharacterSink } from "../../legacy/character-backend.ts";
import { gpa } from "../../memory/gpa.ts";
import { VirtioPciDriver } from "../testing/virtio-pci-driver.ts";
import { ConsoleDevice } from "./device.ts";

const RECEIVE = 0;
const TRANSMIT = 1;
const DATA = 0x8000;

function setUp({ start = true } = {}) {
  const state: { output: string; sink: CharacterSink | null; drained: number } = { output: "", sink: null, drained: 0 };
  const device = new ConsoleDevice({
    output: (bytes) => {
      state.output += Buffer.from(bytes).toString("latin1");
    },
    connect: (sink) => {
      state.sink = sink;
      sink.onDrain(() => state.drained++);
    },
  });
  const driver = new VirtioPciDriver(device);
  if (start) driver.start();
  const ring = (index: number) =>
    driver.rings[index] ??
    (() => {
      throw new Error("no ring");
    })();
  const type = (text: string) => state.sink?.input(Buffer.from(text, "latin1"));
  const print = (text: string, at = DATA) => {
    driver.memory.write(gpa(at), Buffer.from(text, "latin1"));
    ring(TRANSMIT).add([{ address: at, lengthBytes: text.length }]);
  };
  const offer = (lengthBytes: number, at = DATA) => ring(RECEIVE).add([{ address: at, lengthBytes, writable: true }]);
  const text = (lengthBytes: number, at = DATA) =>
    Buffer.from(driver.memory.view(gpa(at), lengthBytes)).toString("latin1");
  return { state, device, driver, ring, type, print, offer, text };
}

describe("virtio-console", () => {
  it("passes output on", () => {
    const { state, driver, ring, print } = setUp();
    print("hello ");
    print("world", DATA + 0x100);
    driver.kick(TRANSMIT);
    expect(state.output).toBe("hello world");
    expect(ring(TRANSMIT).takeUsed()).toEqual([
      { head: 0, writtenBytes: 0 },
      { head: 1, writtenBytes: 0 },
    ]);
    expect(driver.interrupts).toEqual([2]);
  });

  it("passes output on that is longer than its buffer, from scattered memory", () => {
    const { state, driver, ring } = setUp();
    driver.memory.fill(gpa(0x8000), 5000, 0x61);
    driver.memory.fill(gpa(0xa000), 6000, 0x62);
    ring(TRANSMIT).add([
      { address: 0x8000, lengthBytes: 5000 },
      { address: 0xa000, lengthBytes: 6000 },
    ]);
    driver.kick(TRANSMIT);
    expect(state.output).toBe("a".repeat(5000) + "b".repeat(6000));
  });

  it("gives input to the driver's buffers, as they come", () => {
    const { driver, ring, type, offer, text } = setUp();
    offer(4);
    offer(16, DATA + 0x100);
    driver.kick(RECEIVE);
    expect(type("abcdef")).toBe(6);
    expect(ring(RECEIVE).takeUsed()).toEqual([
      { head: 0, writtenBytes: 4 },
      { head: 1, writtenBytes: 2 },
    ]);
    expect([text(4), text(2, DATA + 0x100)]).toEqual(["abcd", "ef"]);
    expect(driver.interrupts).toEqual([1]);
  });

  it("takes no more input than there are buffers for, and says when there are again", () => {
    const { state, driver, type, offer, text } = setUp();
    driver.kick(RECEIVE);
    const before = state.drained;
    offer(2);
    expect([type("abc"), type("c")]).toEqual([2, 0]);
    offer(8);
    expect(driver.rings[RECEIVE]?.takeKick()).toBe(true);
    driver.kick(RECEIVE);
    expect(state.drained).toBe(before + 1);
    expect([type("c"), text(1)]).toEqual([1, "c"]);
  });

  it("takes no input before the driver is ready, after a reset, or once it failed", () => {
    const { driver, type, offer, ring } = setUp({ start: false });
    expect(type("x")).toBe(0);
    driver.start();
    offer(4);
    driver.status = 0;
    expect(type("x")).toBe(0);
    driver.start();
    ring(RECEIVE).makeAvailable(999);
    expect([type("x"), driver.status, type("x")]).toEqual([0, 0x4f, 0]);
  });

  it("tells its size, and of changes", () => {
    const { device, driver } = setUp();
    device.resize(132, 43);
    expect([driver.deviceConfig(0, 2), driver.deviceConfig(2, 2), driver.deviceConfig(4, 4)]).toEqual([132, 43, 0]);
    expect(driver.interrupts).toEqual([0]);
    driver.status = 0;
    driver.start(new Set([32]));
    device.resize(80, 25);
    expect(driver.interrupts).toEqual([0]);
  });

  it("lets others have their turn while a guest floods it (hostile case 52)", async () => {
    const { state, driver, ring } = setUp();
    for (let i = 0; i < 60; i++) ring(TRANSMIT).add([{ address: 0x8000, lengthBytes: 0x8000 }]);
    driver.kick(TRANSMIT);
    expect(state.output.length).toBe(256 * 1024);
    for (let i = 0; i < 100 && ring(TRANSMIT).freeDescriptors < 64; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      ring(TRANSMIT).takeUsed();
    }
    expect(state.output.length).toBe(60 * 0x8000);
  });

  it("does not wait on buffers of the wrong direction or without length", () => {
    const { driver, ring, type } = setUp();
    ring(RECEIVE).add([{ address: DATA, lengthBytes: 16 }]);
    ring(RECEIVE).add([{ address: DATA, lengthBytes: 0, writable: true }]);
    ring(TRANSMIT).add([{ address: DATA, lengthBytes: 16, writable: true }]);
    driver.kick(TRANSMIT);
    expect(type("x")).toBe(0);
    expect(ring(RECEIVE).takeUsed()).toHaveLength(2);
    expect(ring(TRANSMIT).takeUsed()).toHaveLength(1);
  });
});
