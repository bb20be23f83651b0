import { describe, expect, it } from "@jest/globals";
import { PatientDisk } from "../../storage/patient-disk.ts";
import { TrackedDisk } from "../../storage/tracked-disk.ts";
import { FakeStorage } from "../testing/fake-storage.ts";
import { testMemory } from "../testing/split-ring-driver.ts";
import { FakeDoorbells } from "../testing/virtio-pci-driver.ts";
import { VirtioPciDevice } from "../transport/virtio-pci-device.ts";
import { BlockDevice } from "./device.ts";
import { Disk } from "./disk.ts";
import { Disks, UnknownDisk } from "./disks.ts";

/** Grows when it is told to, and by what it is asked then, as a file does. */
class GrowingStorage extends FakeStorage {
  size = 512;
  readonly waiting: (() => void)[] = [];
  closed = 0;

  override async close(): Promise<void> {
    this.closed++;
  }

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
  const tracked = new TrackedDisk(storage);
  const patient = new PatientDisk(tracked);
  const pciDevice = new VirtioPciDevice(device, {
    memory: testMemory(),
    msi: { signalMsi() {} },
    doorbells: new FakeDoorbells(),
    onFault() {},
  });
  const config = { name: "data", readOnly: false, queues: 1, source: { kind: "raw", path: "/data" } } as const;
  const disk = new Disk({ config, tracked, storage: patient, device, pciDevice });
  return { storage, disk, disks: new Disks([disk]), told: () => told };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("the disks of a machine", () => {
  it("tell their sizes", () => {
    const status = { name: "data", sizeBytes: 512, readOnly: false, state: "Attached" };
    expect(setUp().disks.status()).toEqual([status]);
  });

  it("tell of one that came late, until a driver took it, and of one that is to go", () => {
    const { disk, disks } = setUp();
    const state = () => disks.status()[0]?.state;
    disk.isNews = true;
    expect(state()).toBe("Attaching");
    disk.device.hadDriver = true;
    expect(state()).toBe("Attached");
    disk.isUnwanted = true;
    expect(state()).toBe("Detaching");
  });

  it("tell of a full storage of one that came late", () => {
    const { disk } = setUp();
    const disks = new Disks([]);
    const told: unknown[] = [];
    disks.onRoomChange((name, isFull) => told.push([name, isFull]));
    disks.add(disk);
    disk.storage.listener?.full();
    expect(told).toEqual([["data", true]]);
    disks.remove(disk);
    expect(disks.find("data")).toBeUndefined();
  });

  it("close once, whoever asks", async () => {
    const { disk, storage } = setUp();
    await Promise.all([disk.close(), disk.close()]);
    expect(storage.closed).toBe(1);
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
