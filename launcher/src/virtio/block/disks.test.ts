import { describe, expect, it } from "@jest/globals";
import { PatientDisk } from "../../storage/patient-disk.ts";
import { FakeStorage } from "../testing/fake-storage.ts";
import { testMemory } from "../testing/split-ring-driver.ts";
import { BlockDevice } from "./device.ts";
import { Disks, UnknownDisk } from "./disks.ts";

/** Grows when it is told to, and by what it is asked then, as a file does. */
class GrowingStorage extends FakeStorage {
  size = 512;
  readonly waiting: (() => void)[] = [];

  override get sizeBytes(): number {
    return this.size;
  }

  async grow(sizeBytes: number): Promise<void> {
    if (sizeBytes < this.size) throw new Error("does not shrink");
    await new Promise<void>((resolve) => this.waiting.push(resolve));
    this.size = sizeBytes;
  }
}

function setUp() {
  const storage = new GrowingStorage(testMemory(), 512);
  const device = new BlockDevice({ name: "data", storage, queues: 1 });
  let told = 0;
  device.sizeChanged = () => told++;
  const patient = new PatientDisk(storage);
  return { storage, disks: new Disks([{ name: "data", storage: patient, device }]), told: () => told };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("the disks of a machine", () => {
  it("tell their sizes", () => {
    expect(setUp().disks.status()).toEqual([{ name: "data", sizeBytes: 512, readOnly: false }]);
  });

  it("grow one call after the other, so that a smaller size never undoes a larger one", async () => {
    const { storage, disks, told } = setUp();
    const large = disks.grow("data", 4096);
    const small = disks.grow("data", 1024);
    await turn();
    expect(storage.waiting).toHaveLength(1);
    storage.waiting.pop()?.();
    await large;
    await expect(small).rejects.toThrow("does not shrink");
    expect([storage.sizeBytes, told()]).toEqual([4096, 1]);
  });

  it("do not bother the guest when nothing changed", async () => {
    const { storage, disks, told } = setUp();
    const same = disks.grow("data", 512);
    await turn();
    storage.waiting.pop()?.();
    await same;
    expect(told()).toBe(0);
  });

  it("are known by name", async () => {
    await expect(setUp().disks.grow("root", 512)).rejects.toThrow(UnknownDisk);
    await expect(setUp().disks.grow("root", 512)).rejects.toThrow("there is no disk root; known are data");
  });
});
