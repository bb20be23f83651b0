import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import type { DiskConfig } from "../../api/machine-config.ts";
import { IllegalTransition } from "./control-surface.ts";
import { TestMachine } from "./testing/test-machine.ts";

// Guest kernel code may be emulated, and the machine may be busy.
jest.setTimeout(60_000);

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

describe("a disk that grows under a running guest", () => {
  it("is as large for the guest, which uses what is new", async () => {
    await using test = await TestMachine.start({ disks: [scratch(64 * SECTOR)] });
    await test.console.ask("blkread 0 64", "blkread status 1");
    await test.machine.growDisk("scratch", 128 * SECTOR);
    await expect(test.machine.growDisk("scratch", 64 * SECTOR)).rejects.toThrow(/disk scratch: .* does not shrink/);
    await expect(test.machine.growDisk("other", 64 * SECTOR)).rejects.toThrow(/no disk other; known are scratch/);
    expect(test.machine.status().disks).toEqual([{ name: "scratch", sizeBytes: 128 * SECTOR, readOnly: false }]);
    await test.console.ask("blkid 0", "blkid status 0 name scratch sectors 128");
    await test.console.ask("blkwrite 0 127 5", "blkwrite status 0");
    await test.console.ask("blkread 0 127", "blkread status 0 data 0x5");
    await test.console.ask("blkread 0 128", "blkread status 1");
  });

  it("does not after the machine's end", async () => {
    await using test = await TestMachine.start({ disks: [scratch(64 * SECTOR)] });
    await test.machine.stop(0);
    await expect(test.machine.growDisk("scratch", 128 * SECTOR)).rejects.toThrow(IllegalTransition);
  });
});
