import { describe, expect, it } from "@jest/globals";
import { gpa } from "../../memory/gpa.ts";
import { testMemory } from "../testing/split-ring-driver.ts";
import { VirtioPciDriver } from "../testing/virtio-pci-driver.ts";
import { RNG_REQUEST_LIMIT_BYTES, RngDevice } from "./device.ts";

const QUEUE_INTERRUPT = 1;

/** Bytes that count up from 1, so that each can be told apart. */
function countingDevice() {
  let next = 1;
  return new RngDevice((target) => {
    for (let i = 0; i < target.length; i++) target[i] = next++ % 251;
  });
}

describe("virtio-rng", () => {
  it("is found as an entropy device", () => {
    const driver = new VirtioPciDriver(new RngDevice());
    expect(driver.config(0, 4)).toBe(0x10441af4);
    expect(driver.deviceConfig(0, 4)).toBe(0);
  });

  it("fills a request and interrupts", () => {
    const driver = new VirtioPciDriver(countingDevice());
    const [ring] = driver.start();
    ring?.add([
      { address: 0x8000, lengthBytes: 4, writable: true },
      { address: 0x9000, lengthBytes: 3, writable: true },
    ]);
    driver.kick(0);
    expect(ring?.takeUsed()).toEqual([{ head: 0, writtenBytes: 7 }]);
    expect([...driver.memory.view(gpa(0x8000), 5), ...driver.memory.view(gpa(0x9000), 4)]).toEqual([
      1, 2, 3, 4, 0, 5, 6, 7, 0,
    ]);
    expect(driver.interrupts).toEqual([QUEUE_INTERRUPT]);
  });

  it("never gives a byte twice, across refills of its pool", () => {
    const given: number[] = [];
    const driver = new VirtioPciDriver(countingDevice());
    const [ring] = driver.start();
    for (let i = 0; i < 9; i++) {
      ring?.add([{ address: 0x8000, lengthBytes: 1000, writable: true }]);
      driver.kick(0);
      expect(ring?.takeUsed()).toHaveLength(1);
      given.push(...driver.memory.view(gpa(0x8000), 1000));
    }
    expect(given).toEqual(Array.from({ length: 9000 }, (_, i) => (i + 1) % 251));
  });

  it("uses the kernel's generator", () => {
    const driver = new VirtioPciDriver(new RngDevice());
    const [ring] = driver.start();
    ring?.add([{ address: 0x8000, lengthBytes: 64, writable: true }]);
    driver.kick(0);
    expect(new Set(driver.memory.view(gpa(0x8000), 64)).size).toBeGreaterThan(8);
  });

  it("gives 64 KiB at most, however much is asked (hostile case 46)", () => {
    const driver = new VirtioPciDriver(new RngDevice(), testMemory(0x200000));
    const [ring] = driver.start();
    ring?.add([{ address: 0x80000, lengthBytes: 0x100000, writable: true }]);
    driver.kick(0);
    expect(ring?.takeUsed()).toEqual([{ head: 0, writtenBytes: RNG_REQUEST_LIMIT_BYTES }]);
    expect(driver.memory.readU32(gpa(0x80000 + RNG_REQUEST_LIMIT_BYTES))).toBe(0);
  });

  it("gives nothing to a request without writable buffers", () => {
    const driver = new VirtioPciDriver(new RngDevice());
    const [ring] = driver.start();
    ring?.add([{ address: 0x8000, lengthBytes: 16 }]);
    driver.kick(0);
    expect(ring?.takeUsed()).toEqual([{ head: 0, writtenBytes: 0 }]);
  });

  it("lets others have their turn in a storm, and still serves all of it", async () => {
    const driver = new VirtioPciDriver(new RngDevice());
    const [ring] = driver.start();
    for (let i = 0; i < 60; i++) ring?.add([{ address: 0x8000, lengthBytes: 16, writable: true }]);
    driver.kick(0);
    expect(ring?.takeUsed().length).toBeLessThan(60);
    let served = 0;
    for (let turn = 0; turn < 100 && ring?.freeDescriptors !== 64; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      served += ring?.takeUsed().length ?? 0;
    }
    expect(served).toBeGreaterThan(0);
    expect(ring?.freeDescriptors).toBe(64);
  });
});
