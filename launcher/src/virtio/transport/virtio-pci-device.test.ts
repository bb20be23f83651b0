import { describe, expect, it } from "@jest/globals";
import { gpa } from "../../memory/gpa.ts";
import {
  readConfigBytes,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
  type VirtioDriver,
} from "../device.ts";
import { VirtqueueError } from "../queue.ts";
import { FakePoller } from "../testing/fake-poller.ts";
import { VirtioPciDriver } from "../testing/virtio-pci-driver.ts";

const CONFIG_INTERRUPT = 0;
const NEEDS_RESET = 0x40;

/** Answers each chain at once, unless it is told to hold or to break. */
class EchoDevice implements VirtioDevice {
  readonly name = "echo";
  readonly deviceType = 42;
  readonly pciClass = 0xff0000;
  readonly features = new Set([5, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1, 40]);
  readonly queueSizes = [64, 16];
  readonly config = Uint8Array.of(1, 2, 3, 4, 5);
  driver: VirtioDriver | null = null;
  activations = 0;
  served = 0;
  held: number[] | null = null;
  error: Error | null = null;
  isPolled = () => false;
  #atRest: (() => void) | null = null;

  readConfig(offset: number, data: Uint8Array): void {
    readConfigBytes(this.config, offset, data);
  }

  writeConfig(offset: number, data: Uint8Array): void {
    if (offset + data.length <= this.config.length) this.config.set(data, offset);
  }

  activate(driver: VirtioDriver): void {
    if (this.error) throw this.error;
    this.activations++;
    this.driver = driver;
  }

  serve(index: number): boolean {
    if (this.error) throw this.error;
    const queue = this.driver?.queue(index);
    if (!queue) return false;
    do {
      for (let chain = queue.pop(); chain !== null; chain = queue.pop()) {
        this.served++;
        if (this.held) this.held.push(chain.head);
        else queue.push(chain.head, 0);
      }
    } while (queue.enableNotifications());
    this.driver?.signalUsed(index);
    return false;
  }

  hold(): undefined {}

  reset(): Promise<void> | undefined {
    this.driver = null;
    if (!this.held?.length) return undefined;
    return new Promise((resolve) => {
      this.#atRest = resolve;
    });
  }

  comeToRest(): void {
    this.held = null;
    this.#atRest?.();
  }
}

function setUp() {
  const device = new EchoDevice();
  return { device, driver: new VirtioPciDriver(device) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("virtio-pci", () => {
  it("shows a modern device with one capability of each kind", () => {
    const { driver } = setUp();
    expect(driver.config(0, 4)).toBe(((0x1040 + 42) << 16) | 0x1af4);
    expect(driver.config(8, 1)).toBe(1);
    expect([...driver.structures.keys()].sort()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(driver.common(0x12, 2)).toBe(2);
    expect([...driver.offeredFeatures()].sort((a, b) => a - b)).toEqual([5, 28, 29, 32, 40]);
  });

  it("goes from reset to work by a doorbell, and interrupts", () => {
    const { device, driver } = setUp();
    const [ring] = driver.start();
    expect([driver.status, device.activations]).toEqual([0x0f, 1]);
    expect([...(device.driver?.features ?? [])].sort((a, b) => a - b)).toEqual([5, 28, 29, 32, 40]);
    ring?.add([{ address: 0x8000, lengthBytes: 4 }]);
    driver.kick(0);
    expect(ring?.takeUsed()).toHaveLength(1);
    expect(driver.interrupts).toEqual([1]);
  });

  it("serves chains that were published before the driver was ready", () => {
    const { driver } = setUp();
    driver.negotiate();
    const ring = driver.setUpQueue(0);
    ring.add([{ address: 0x8000, lengthBytes: 4 }]);
    driver.kick(0);
    expect(ring.takeUsed()).toEqual([]);
    driver.status = 0x0f;
    expect(ring.takeUsed()).toHaveLength(1);
  });

  it("also takes doorbells that exit, and without MSI-X says so in the ISR", () => {
    const { driver } = setUp();
    const [, second] = driver.start();
    const msix = [0, 1, 2, 3, 4, 5, 6].map((i) => 0x40 + 4 * i * 5).find((at) => driver.config(at, 1) === 0x11) ?? 0x98;
    expect(driver.config(msix, 1)).toBe(0x11);
    driver.config(msix + 2, 2, 0);
    second?.add([{ address: 0x8000, lengthBytes: 4 }]);
    driver.access(driver.doorbellAddress(1), 2, 1);
    expect(second?.takeUsed()).toHaveLength(1);
    expect(driver.interrupts).toEqual([]);
    const isr = driver.structures.get(3) ?? 0;
    expect([driver.access(isr, 1), driver.access(isr, 1)]).toEqual([1, 0]);
  });

  it("has doorbells only while the driver is ready, and moves them with the BAR", () => {
    const { driver } = setUp();
    expect(driver.doorbells.assigned.size).toBe(0);
    driver.start();
    const before = driver.doorbellAddress(0);
    expect([...driver.doorbells.assigned.keys()]).toEqual([before, before + 4]);
    driver.config(0x10, 4, 0xc080_0000);
    expect([...driver.doorbells.assigned.keys()]).toEqual([0xc080_3000, 0xc080_3004]);
    driver.config(4, 2, 0);
    expect(driver.doorbells.assigned.size).toBe(0);
    driver.config(4, 2, 2);
    expect(driver.doorbells.assigned.size).toBe(2);
    driver.access(0xc080_0014, 1, 0);
    expect(driver.doorbells.assigned.size).toBe(0);
  });

  it("works by exits where doorbells cannot be had", () => {
    const { driver } = setUp();
    driver.doorbells.assign = () => {
      throw new Error("no space left on device");
    };
    const [ring] = driver.start();
    expect(driver.faults).toHaveLength(1);
    ring?.add([{ address: 0x8000, lengthBytes: 4 }]);
    driver.kick(0);
    expect(ring?.takeUsed()).toHaveLength(1);
  });

  it("raises the generation and interrupts when the configuration changes", () => {
    const { device, driver } = setUp();
    driver.start();
    const before = driver.common(0x15, 1);
    device.driver?.signalConfigChange();
    expect(driver.common(0x15, 1)).toBe(before + 1);
    expect(driver.interrupts).toEqual([CONFIG_INTERRUPT]);
  });

  it("passes device configuration on, at any width", () => {
    const { driver } = setUp();
    expect(driver.deviceConfig(0, 4)).toBe(0x04030201);
    expect(driver.deviceConfig(3, 4)).toBe(0x0504);
    driver.deviceConfig(1, 1, 9);
    expect(driver.deviceConfig(0, 2)).toBe(0x0901);
  });
});

describe("negotiation", () => {
  it("takes a subset of the features", () => {
    const { device, driver } = setUp();
    driver.start(new Set([VIRTIO_F_VERSION_1, 40]));
    expect(device.driver?.features).toEqual(new Set([VIRTIO_F_VERSION_1, 40]));
  });

  it("refuses features that were not offered (hostile case 34)", () => {
    const { driver } = setUp();
    expect(driver.negotiate(new Set([VIRTIO_F_VERSION_1, 6]))).toBe(false);
    expect(driver.status).toBe(3);
  });

  it("refuses a driver of before version 1", () => {
    const { driver } = setUp();
    expect(driver.negotiate(new Set([5]))).toBe(false);
  });

  it("has no features beyond bit 63", () => {
    const { driver } = setUp();
    for (const select of [2, 3, 0x80000000, 0xffffffff]) {
      driver.common(0, 4, select);
      driver.common(8, 4, select);
      driver.common(0x0c, 4, 0xffffffff);
      expect([driver.common(4, 4), driver.common(0x0c, 4)]).toEqual([0, 0]);
    }
  });

  it("freezes features once they are agreed", () => {
    const { driver } = setUp();
    driver.negotiate();
    driver.common(8, 4, 0);
    driver.common(0x0c, 4, 0);
    expect(driver.common(0x0c, 4)).not.toBe(0);
  });
});

// Numbers as in the list of what a hostile guest tries.
describe("a hostile driver", () => {
  it("28: changes nothing of a queue after DRIVER_OK, nor after it was enabled", () => {
    const { driver } = setUp();
    driver.negotiate();
    driver.setUpQueue(0, 8);
    const poke = () => {
      driver.common(0x16, 2, 0);
      driver.common(0x18, 2, 64);
      for (let offset = 0x20; offset < 0x38; offset += 4) driver.common(offset, 4, 0xfffff000);
      driver.common(0x1c, 2, 0);
      return [driver.common(0x18, 2), driver.common(0x20, 4), driver.common(0x1c, 2)];
    };
    expect(poke()).toEqual([8, 0x1000, 1]);
    driver.status = 0x0f;
    expect(poke()).toEqual([8, 0x1000, 1]);
    driver.common(0x16, 2, 1);
    driver.common(0x1c, 2, 1);
    expect(driver.common(0x1c, 2)).toBe(0);
  });

  it("28: sets up no queue before FEATURES_OK", () => {
    const { driver } = setUp();
    driver.setUpQueue(0, 8);
    expect([driver.common(0x18, 2), driver.common(0x1c, 2)]).toEqual([64, 0]);
  });

  it("29: an enabled queue without addresses lies at 0, which is RAM like any other", () => {
    const { driver } = setUp();
    driver.negotiate();
    driver.common(0x1c, 2, 1);
    driver.status = 0x0f;
    expect(driver.status).toBe(0x0f);
    driver.kick(0);
  });

  it.each([
    ["26: rings outside RAM", 0x20, 0xfffff000],
    ["26: rings beyond any address", 0x24, 0xffffffff],
    ["25: unaligned rings", 0x20, 0x1001],
    ["27: size not a power of two", 0x18, 63],
    ["27: size 0", 0x18, 0],
    ["27: size above the queue's", 0x18, 128],
  ])("%s: the device needs a reset, and works after it", (_name, offset, value) => {
    const { device, driver } = setUp();
    driver.negotiate();
    driver.common(0x10, 2, 0);
    driver.common(0x16, 2, 0);
    driver.common(offset, offset === 0x18 ? 2 : 4, value);
    driver.common(0x1c, 2, 1);
    driver.status = 0x0f;
    expect(driver.status).toBe(0x0f | NEEDS_RESET);
    expect(driver.interrupts).toEqual([CONFIG_INTERRUPT]);
    expect(driver.faults[0]).toBeInstanceOf(VirtqueueError);
    driver.kick(0);
    driver.status = 0;
    expect(driver.status).toBe(0);
    const [ring] = driver.start();
    ring?.add([{ address: 0x8000, lengthBytes: 4 }]);
    driver.kick(0);
    expect(ring?.takeUsed()).toHaveLength(1);
    expect(device.activations).toBe(1);
  });

  it("30: kicks before DRIVER_OK, after reset, and of unknown queues do nothing", () => {
    const { device, driver } = setUp();
    const kickAll = () => {
      for (const index of [0, 1, 2, 3, 500, 1000]) driver.kick(index);
    };
    kickAll();
    const [ring] = driver.start();
    kickAll();
    driver.status = 0;
    ring?.add([{ address: 0x8000, lengthBytes: 4 }]);
    kickAll();
    expect(device.served).toBe(0);
  });

  it("31: queue_select out of range reads zeroes and writes nothing", () => {
    const { driver } = setUp();
    driver.negotiate();
    for (const select of [2, 3, 0x7fff, 0xffff]) {
      driver.common(0x16, 2, select);
      for (const offset of [0x18, 0x1a, 0x1c]) driver.common(offset, 2, 1);
      for (let offset = 0x20; offset < 0x38; offset += 4) driver.common(offset, 4, 0x1000);
      expect([driver.common(0x18, 2), driver.common(0x1a, 2), driver.common(0x1c, 2)]).toEqual([0, 0xffff, 0]);
      expect([driver.common(0x1e, 2), driver.common(0x20, 4)]).toEqual([0, 0]);
    }
  });

  it("32: vectors out of range become none", () => {
    const { driver } = setUp();
    for (const vector of [3, 4, 0x7ff, 0xfffe]) {
      driver.common(0x10, 2, vector);
      driver.common(0x1a, 2, vector);
      expect([driver.common(0x10, 2), driver.common(0x1a, 2)]).toEqual([0xffff, 0xffff]);
    }
  });

  it("32: accesses of the wrong width or between fields read all ones and write nothing", () => {
    const { driver } = setUp();
    driver.status = 1;
    driver.common(0x14, 2, 0);
    driver.common(0x14, 4, 0);
    driver.common(0x13, 2, 0);
    driver.common(0x16, 1, 1);
    expect([driver.common(0x14, 1), driver.common(0x16, 2)]).toEqual([1, 0]);
    expect([driver.common(0x14, 2), driver.common(0x00, 1), driver.common(0x01, 4)]).toEqual([
      0xffff, 0xff, 0xffffffff,
    ]);
    for (let offset = 0; offset < 0x100; offset++)
      for (const width of [1, 2, 4, 8]) driver.common(offset, width, 0xffffffff);
  });

  it("33: steps that a driver does not take are ignored", () => {
    const { device, driver } = setUp();
    for (const written of [0x0f, 0x0b, 0x08, 0x04, 0x02]) {
      driver.status = written;
      expect(driver.status).toBe(0);
    }
    driver.start();
    for (const written of [0x0b, 0x07, 0x01, 0x0f, 0x0f]) driver.status = written;
    expect([driver.status, device.activations]).toEqual([0x0f, 1]);
  });

  it("33: reset while requests are in flight ends only when they have", async () => {
    const { device, driver } = setUp();
    device.held = [];
    const [ring] = driver.start();
    ring?.add([{ address: 0x8000, lengthBytes: 4, writable: true }]);
    driver.kick(0);
    const session = device.driver;
    driver.status = 0;
    expect([driver.status, session?.isLive]).toEqual([0x0f, false]);
    driver.status = 1;
    driver.common(0x16, 2, 0);
    driver.kick(0);
    expect([driver.status, driver.common(0x16, 2), device.served]).toEqual([0x0f, 1, 1]);
    session?.signalUsed(0);
    session?.fail(new Error("too late"));
    device.comeToRest();
    await turn();
    expect([driver.status, driver.faults, driver.interrupts]).toEqual([0, [], []]);
    expect(ring?.takeUsed()).toEqual([]);
    driver.start();
    expect(driver.status).toBe(0x0f);
  });

  it("33: a reset storm leaves nothing behind", () => {
    const { device, driver } = setUp();
    for (let i = 0; i < 200; i++) {
      driver.start();
      driver.status = 0;
    }
    expect([device.activations, driver.doorbells.assigned.size, driver.status]).toEqual([200, 0, 0]);
  });

  it("35: device configuration out of range reads zero", () => {
    const { driver } = setUp();
    for (const offset of [5, 0x100, 0xffc]) expect(driver.deviceConfig(offset, 4)).toBe(0);
    expect(driver.deviceConfig(0xffd, 4)).toBe(0xffffffff);
    driver.deviceConfig(0xffc, 4, 1);
  });

  describe("37: by the PCI_CFG capability", () => {
    const window = (driver: VirtioPciDriver, bar: number, offset: number, length: number, value?: number) => {
      let at = driver.config(0x34, 1);
      while (driver.config(at + 3, 1) !== 5 || driver.config(at, 1) !== 9) at = driver.config(at + 1, 1);
      driver.config(at + 4, 1, bar);
      driver.config(at + 8, 4, offset);
      driver.config(at + 12, 4, length);
      return driver.config(at + 16, [1, 2, 4].includes(length) ? length : 4, value);
    };

    it("reaches the BAR", () => {
      const { driver } = setUp();
      expect(window(driver, 0, 0x12, 2)).toBe(2);
      window(driver, 0, 0x14, 1, 1);
      expect(driver.status).toBe(1);
      expect(window(driver, 0, 0x2000, 4)).toBe(0x04030201);
    });

    it.each([
      [1, 0x14, 1],
      [5, 0x14, 1],
      [0, 0x14, 0],
      [0, 0x14, 3],
      [0, 0x13, 2],
      [0, 0x14, 0xffffffff],
      [0, 0xfffffffc, 4],
      [0, 0x8000, 4],
    ])("does nothing for BAR %d, offset %d, length %d", (bar, offset, length) => {
      const { driver } = setUp();
      window(driver, bar, offset, length, 1);
      window(driver, bar, offset, length);
      expect(driver.status).toBe(0);
    });
  });

  it("38: a storm of stores to every register harms nobody", () => {
    const { driver } = setUp();
    let seed = 1;
    const random = () => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return seed;
    };
    for (let i = 0; i < 20000; i++)
      driver.access(0xc000_0000 + (random() % 0x8000), [1, 2, 4, 8][random() % 4] ?? 1, random());
    driver.access(0xc000_0014, 1, 0);
    driver.start();
    expect(driver.status).toBe(0x0f);
  });
});

describe("a device that fails", () => {
  it("needs a reset, tells the driver, and is not called again", () => {
    const { device, driver } = setUp();
    const [ring] = driver.start();
    ring?.makeAvailable(9999);
    driver.kick(0);
    expect(driver.status).toBe(0x4f);
    expect(driver.interrupts).toEqual([CONFIG_INTERRUPT]);
    expect(driver.faults[0]).toBeInstanceOf(VirtqueueError);
    const served = device.served;
    driver.kick(1);
    expect([device.served, driver.doorbells.assigned.size, device.driver?.isLive]).toEqual([served, 0, false]);
  });

  it("fails by any defect of its own too, and alone", () => {
    const { device, driver } = setUp();
    driver.start();
    device.error = new TypeError("a defect");
    driver.kick(0);
    expect([driver.status, driver.faults]).toEqual([0x4f, [device.error]]);
  });

  it("fails at activation", () => {
    const { device, driver } = setUp();
    device.error = new Error("no");
    driver.start();
    expect(driver.status).toBe(0x4f);
  });
});

describe("reset by the machine", () => {
  it("puts device, MSI-X and configuration space back as after power-on", async () => {
    const { driver } = setUp();
    driver.start();
    await driver.transport.reset();
    expect(driver.config(4, 2)).toBe(0);
    expect(driver.doorbells.assigned.size).toBe(0);
    driver.config(4, 2, 2);
    expect(driver.status).toBe(0);
    driver.access((driver.structures.get(0) ?? 0) + 12, 4);
    expect(driver.access((driver.structures.get(0) ?? 0) + 12, 4)).toBe(1);
  });

  it("waits for what is in flight", async () => {
    const { device, driver } = setUp();
    device.held = [];
    const [ring] = driver.start();
    ring?.add([{ address: 0x8000, lengthBytes: 4, writable: true }]);
    driver.kick(0);
    let done = false;
    const reset = driver.root.reset().then(() => {
      done = true;
    });
    await turn();
    expect(done).toBe(false);
    device.comeToRest();
    await reset;
    driver.config(4, 2, 2);
    expect(driver.status).toBe(0);
  });

  it("leaves guest memory alone", async () => {
    const { driver } = setUp();
    driver.start();
    driver.memory.fill(gpa(0), 0x10000, 0xcc);
    await driver.root.reset();
    expect(driver.memory.view(gpa(0), 0x10000).every((byte) => byte === 0xcc)).toBe(true);
  });
});

describe("a virtio-pci device whose queues are looked at", () => {
  const setUpPolled = (isPolled = true) => {
    const device = new EchoDevice();
    device.isPolled = () => isPolled;
    const poller = new FakePoller();
    const driver = new VirtioPciDriver(device, undefined, poller);
    const [ring] = driver.start();
    if (!ring) throw new Error("no queue");
    const add = () => ring.add([{ address: 0x8000, lengthBytes: 4 }]);
    /** As a driver does: rings where it is asked to. Answers whether it was. */
    const addAndKick = () => {
      add();
      const isKicked = ring.takeKick();
      if (isKicked) driver.kick(0);
      return isKicked;
    };
    return { device, poller, driver, ring, addAndKick };
  };

  it("is rung once, and then found to have work", () => {
    const { poller, ring, addAndKick } = setUpPolled();
    expect([addAndKick(), addAndKick(), addAndKick()]).toEqual([true, false, false]);
    expect(ring.takeUsed()).toHaveLength(1);
    poller.look();
    expect(ring.takeUsed()).toHaveLength(2);
  });

  it("is rung again when nobody looks any more", () => {
    const { poller, ring, addAndKick } = setUpPolled();
    for (let i = 0; i < 3; i++) addAndKick();
    poller.rest();
    expect(ring.takeUsed()).toHaveLength(3);
    expect(addAndKick()).toBe(true);
    expect(ring.takeUsed()).toHaveLength(1);
  });

  it("is not looked at while it is held, and rung from its release on", async () => {
    const { driver, poller, ring, addAndKick } = setUpPolled();
    for (let i = 0; i < 3; i++) addAndKick();
    await driver.transport.hold();
    expect(poller.sources.size).toBe(0);
    driver.kick(0);
    expect([poller.sources.size, ring.takeUsed().length]).toEqual([0, 1]);
    driver.transport.release();
    expect(ring.takeUsed()).toHaveLength(2);
    expect(addAndKick()).toBe(true);
  });

  it.each<[string, (made: ReturnType<typeof setUpPolled>) => void]>([
    [
      "its driver resets it",
      ({ driver }) => {
        driver.status = 0;
      },
    ],
    [
      "it fails",
      ({ device, driver }) => {
        device.error = new VirtqueueError("a mistake");
        driver.kick(0);
      },
    ],
  ])("is not looked at once %s", (_what, end) => {
    const made = setUpPolled();
    made.addAndKick();
    expect(made.poller.sources.size).toBe(1);
    end(made);
    expect(made.poller.sources.size).toBe(0);
  });

  it("is always rung where it is none that is looked at", () => {
    const { poller, addAndKick } = setUpPolled(false);
    expect([addAndKick(), addAndKick(), addAndKick(), addAndKick()]).toEqual([true, true, true, true]);
    expect(poller.sources.size).toBe(0);
  });
});
