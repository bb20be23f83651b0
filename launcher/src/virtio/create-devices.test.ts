import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskConfig } from "../../api/machine-config.ts";
import { DiskError } from "../storage/disk-error.ts";
import { IoPool } from "../storage/io-pool.ts";
import { createVirtioDevices, type VirtioDeviceOptions } from "./create-devices.ts";
import { testMemory } from "./testing/split-ring-driver.ts";
import { FakeDoorbells } from "./testing/virtio-pci-driver.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "devices-"));
  mkdirSync(join(directory, "image", "disk"), { recursive: true });
  writeFileSync(join(directory, "image", "disk", "root.img"), new Uint8Array(8192));
  writeFileSync(join(directory, "data.img"), new Uint8Array(4096));
});
afterEach(() => rmSync(directory, { recursive: true }));

const image = (name: string): DiskConfig => ({
  name,
  readOnly: false,
  queues: 2,
  source: { kind: "image", imageRoot: join(directory, "image"), overlayPath: join(directory, `${name}.overlay`) },
});
const raw = (name: string, file = "data.img"): DiskConfig => ({
  name,
  readOnly: false,
  queues: 1,
  source: { kind: "raw", path: join(directory, file) },
});
const options = (disks: readonly DiskConfig[]): VirtioDeviceOptions => ({
  host: { memory: testMemory(), msi: { signalMsi() {} }, doorbells: new FakeDoorbells(), onFault() {} },
  disks,
  pool: new IoPool(),
  onIoError() {},
});

describe("the virtio devices of a machine", () => {
  it("are its disks in order, an entropy device, and a console where one is wanted", async () => {
    const console = { output() {}, connect() {} };
    const { devices, close } = await createVirtioDevices({ ...options([image("root"), raw("data")]), console });
    expect(devices.map(({ device }) => device.name)).toEqual([
      "virtio-blk root",
      "virtio-blk data",
      "virtio-rng",
      "virtio-console",
    ]);
    expect(devices[0]?.device.queueSizes).toHaveLength(2);
    await close();
  });

  it("have the vsock last, where one is wanted, so that it moves no other", async () => {
    const vsock = { socketPath: join(directory, "v"), guestCid: 3 };
    const { devices, close, ...made } = await createVirtioDevices({ ...options([raw("data")]), vsock });
    expect(devices.map(({ device }) => device.name)).toEqual(["virtio-blk data", "virtio-rng", "virtio-vsock"]);
    expect(made.vsock).toBe(devices[2]?.device);
    await close();
  });

  it("close their disks, which others can use then", async () => {
    for (let i = 0; i < 2; i++) {
      const { devices, close } = await createVirtioDevices(options([raw("data")]));
      expect(devices).toHaveLength(2);
      await close();
    }
  });

  it("leave nothing open when one cannot be had", async () => {
    const bad = createVirtioDevices(options([raw("data"), raw("missing", "missing.img")]));
    await expect(bad).rejects.toThrow(DiskError);
    await expect(bad).rejects.toThrow(/^disk missing: .*missing\.img cannot be found/);
    await (await createVirtioDevices(options([raw("data")]))).close();
  });

  it("refuse two disks on one file", async () => {
    await expect(createVirtioDevices(options([raw("one"), raw("two")]))).rejects.toThrow(/disk two: .* in use/);
  });
});
