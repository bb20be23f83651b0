import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskConfig } from "../../api/machine-config.ts";
import { until } from "../testing/until.ts";
import { IllegalTransition } from "./control-surface.ts";
import { TestMachine } from "./testing/test-machine.ts";

const SECTOR = 512;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "machine-disks-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const scratch = (sizeBytes: number): DiskConfig => ({
  name: "scratch",
  readOnly: false,
  queues: 1,
  source: { kind: "empty", path: join(directory, "scratch"), sizeBytes },
});

it("disks stand on the bus in the order of machine.json, which is the one that firmware tries them in", async () => {
  const raw = join(directory, "raw");
  writeFileSync(raw, new Uint8Array(3 * SECTOR));
  const empty = (name: string, sectors: number): DiskConfig => ({
    ...scratch(sectors * SECTOR),
    name,
    source: { kind: "empty", path: join(directory, name), sizeBytes: sectors * SECTOR },
  });
  const disks: DiskConfig[] = [
    empty("without-a-loader", 4),
    { name: "root", readOnly: true, queues: 1, source: { kind: "raw", path: raw } },
    empty("another", 2),
  ];
  await using test = await TestMachine.start({ disks });
  for (const [index, [name, sectors]] of [
    ["without-a-loader", 4],
    ["root", 3],
    ["another", 2],
  ].entries())
    await test.console.ask(`blkid ${index}`, `blkid status 0 name ${name} sectors ${sectors}`);
});

describe("a disk with limits, in a running guest", () => {
  const BLOCK = 4096;
  const limited = (name: string, limits: NonNullable<DiskConfig["limits"]>): DiskConfig => ({
    ...scratch(4 << 20),
    name,
    limits,
    source: { kind: "empty", path: join(directory, name), sizeBytes: 4 << 20 },
  });

  it("does no more requests and bytes than it may, of reads and of writes", async () => {
    const [perSecond, count] = [100, 40];
    const bytes = perSecond * BLOCK;
    const disks = [
      limited("requests", { requestsPerSecond: perSecond }),
      limited("bytes", { bytesPerSecond: bytes }),
      limited("both", { requestsPerSecond: 100 * perSecond, bytesPerSecond: bytes }),
    ];
    await using test = await TestMachine.start({ disks });
    for (const disk of disks.keys())
      for (const write of [0, 1]) {
        const startedAtMs = performance.now();
        await test.console.ask(`blkbench ${disk} 4 ${count} ${BLOCK} 0 ${write}`, `blkbench done ${count} failed 0 `);
        // What a tenth of a second allows may have been saved up, and one request may be larger than what is left.
        const allowed = perSecond * (0.1 + (performance.now() - startedAtMs) / 1000) + 1;
        expect({ disk, write, isWithin: count <= allowed }).toEqual({ disk, write, isWithin: true });
      }
  });
});

describe("a disk that grows under a running guest", () => {
  it("is as large for the guest, which uses what is new", async () => {
    await using test = await TestMachine.start({ disks: [scratch(64 * SECTOR)] });
    await test.console.ask("blkread 0 64", "blkread status 1");
    await test.machine.deviceControls.growDisk("scratch", 128 * SECTOR);
    await expect(test.machine.deviceControls.growDisk("scratch", 64 * SECTOR)).rejects.toThrow(
      /disk scratch: .* does not shrink/,
    );
    await expect(test.machine.deviceControls.growDisk("other", 64 * SECTOR)).rejects.toThrow(
      /no disk other; known are scratch/,
    );
    expect(test.machine.status().disks).toMatchObject([{ name: "scratch", sizeBytes: 128 * SECTOR, readOnly: false }]);
    await test.console.ask("blkid 0", "blkid status 0 name scratch sectors 128");
    await test.console.ask("blkwrite 0 127 5", "blkwrite status 0");
    await test.console.ask("blkread 0 127", "blkread status 0 data 0x5");
    await test.console.ask("blkread 0 128", "blkread status 1");
  });

  it("does not after the machine's end", async () => {
    await using test = await TestMachine.start({ disks: [scratch(64 * SECTOR)] });
    await test.machine.stop(0);
    await expect(test.machine.deviceControls.growDisk("scratch", 128 * SECTOR)).rejects.toThrow(IllegalTransition);
  });
});

/** A file system in memory with room for 64 KiB, and a file that takes all of it. Needs root. */
class FullFileSystem implements Disposable {
  readonly path = join(directory, "full");
  readonly #filler = join(this.path, "filler");

  constructor() {
    mkdirSync(this.path);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "none", this.path]);
    writeFileSync(this.#filler, new Uint8Array(64 << 10));
  }

  makeRoom(): void {
    rmSync(this.#filler);
  }

  [Symbol.dispose](): void {
    execFileSync("umount", [this.path]);
  }
}

describe("a machine whose disk's storage is full", () => {
  const disk = (storage: FullFileSystem): DiskConfig => ({
    name: "scratch",
    readOnly: false,
    queues: 1,
    source: { kind: "empty", path: join(storage.path, "scratch"), sizeBytes: 1 << 20 },
  });
  /** A running machine whose guest has written, and waits for the answer. */
  const waiting = async (storage: FullFileSystem) => {
    const test = await TestMachine.start({ disks: [disk(storage)] });
    test.console.text = "";
    test.console.type("blkwrite 0 8 7");
    test.console.type("blkread 0 8");
    await until(() => test.machine.status().state === "Paused");
    return test;
  };

  it("is paused, says why, and goes on by itself when there is room", async () => {
    using storage = new FullFileSystem();
    await using test = await waiting(storage);
    expect(test.machine.status()).toMatchObject({
      reason: "StorageFull",
      message: "the storage of disk scratch is full; the guest is paused until there is room: enlarge it or free some",
      pause: { asked: false, storageFull: ["scratch"] },
    });
    expect(test.console.text).not.toContain("status");
    storage.makeRoom();
    await test.console.said("blkread status 0 data 0x7");
    expect(test.machine.status()).toMatchObject({ state: "Running", reason: "Started" });
    expect(test.machine.status().pause).toBeUndefined();
    expect(test.log.map(({ fields }) => fields?.["reason"])).toEqual(
      expect.arrayContaining(["StorageFull", "StorageHasRoom"]),
    );
  });

  it("stays paused when that was asked for too, until it is resumed", async () => {
    using storage = new FullFileSystem();
    await using test = await waiting(storage);
    await test.machine.pause();
    expect(test.machine.status().pause).toEqual({ asked: true, storageFull: ["scratch"] });
    storage.makeRoom();
    await until(() => test.machine.status().pause?.storageFull.length === 0);
    expect(test.machine.status()).toMatchObject({ state: "Paused", reason: "PauseRequested" });
    test.machine.resume();
    await test.console.said("blkread status 0 data 0x7");
  });

  it("is not resumed before there is room, and then at once", async () => {
    using storage = new FullFileSystem();
    await using test = await waiting(storage);
    await test.machine.pause();
    test.machine.resume();
    expect(test.machine.status()).toMatchObject({ state: "Paused", pause: { asked: false, storageFull: ["scratch"] } });
    storage.makeRoom();
    test.machine.resume();
    await test.console.said("blkread status 0 data 0x7");
  });

  it("powers off when it is asked to stop", async () => {
    using storage = new FullFileSystem();
    await using test = await waiting(storage);
    await test.machine.stop(30_000);
    expect(test.machine.status()).toMatchObject({ state: "Ended", reason: "Stopped" });
  });

  it("is switched off when its guest does not react", async () => {
    using storage = new FullFileSystem();
    await using test = await waiting(storage);
    await test.machine.stop(0);
    expect(test.machine.status()).toMatchObject({ state: "Ended", reason: expect.stringMatching(/^Stop/) });
    expect(test.log.map(({ fields }) => fields?.["reason"])).not.toContain("CloseTimeout");
  });

  it("starts anew when it is reset", async () => {
    using storage = new FullFileSystem();
    await using test = await waiting(storage);
    test.console.text = "";
    await test.machine.reset();
    await test.console.said("READY pvh");
    expect(test.machine.status()).toMatchObject({ state: "Running", reboots: 1 });
  });
});

describe("a machine whose overlay is as large as it may be", () => {
  const MIB = 2 ** 20;
  const image = (): DiskConfig => {
    const imageRoot = join(directory, "image");
    mkdirSync(join(imageRoot, "disk"), { recursive: true });
    writeFileSync(join(imageRoot, "disk", "root.img"), new Uint8Array(4 * MIB));
    const source = {
      kind: "image",
      imageRoot,
      overlayPath: join(directory, "overlay"),
      overlayLimitBytes: MIB,
    } as const;
    return { name: "root", readOnly: false, queues: 1, source };
  };
  const CLUSTERS = MIB / 4096;
  /** A running machine whose guest has written all that it may, and waits for one cluster more. */
  const waiting = async () => {
    const test = await TestMachine.start({ disks: [image()] });
    await test.console.ask(`blkbench 0 1 ${CLUSTERS} 4096 0 1`, `blkbench done ${CLUSTERS} failed 0`);
    await test.console.ask(`blkwrite 0 ${(CLUSTERS - 1) * 8} 7`, "blkwrite status 0");
    test.console.text = "";
    test.console.type(`blkwrite 0 ${CLUSTERS * 8} 9`);
    test.console.type(`blkread 0 ${CLUSTERS * 8}`);
    await until(() => test.machine.status().state === "Paused");
    return test;
  };

  it("is paused with the figures, and goes on when the limit is raised", async () => {
    await using test = await waiting();
    expect(test.machine.status()).toMatchObject({
      reason: "StorageFull",
      message: `the overlay of disk root has ${MIB} bytes and may have ${MIB}; the guest is paused until there is room: raise the limit`,
      pause: { asked: false, storageFull: ["root"] },
      disks: [{ name: "root", overlay: { usedBytes: MIB, limitBytes: MIB, isFull: true } }],
    });
    test.machine.deviceControls.limitOverlay("root", 2 * MIB);
    await test.console.said("blkread status 0 data 0x9");
    expect(test.machine.status()).toMatchObject({
      state: "Running",
      disks: [{ overlay: { limitBytes: 2 * MIB, isFull: false } }],
    });
    await test.console.ask(`blkread 0 ${(CLUSTERS - 1) * 8}`, "blkread status 0 data 0x7");
  });

  it("has no limit to raise on other disks, nor after its end", async () => {
    await using test = await TestMachine.start({ disks: [scratch(64 * SECTOR)] });
    expect(() => test.machine.deviceControls.limitOverlay("scratch", MIB)).toThrow(/disk scratch: it has no overlay/);
    await test.machine.stop(0);
    expect(() => test.machine.deviceControls.limitOverlay("scratch", MIB)).toThrow(IllegalTransition);
  });
});
