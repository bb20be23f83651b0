import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { ImportSource } from "../../api/import.ts";
import { openFile } from "../sys/file-io.ts";
import { recordingLog } from "../testing/recording-log.ts";
import { ProgressMeter } from "./progress.ts";
import { runImport } from "./run-import.ts";

// Needs root: block devices are made. Nothing is sent to KVM.
const MIB = 2 ** 20;
let directory: string;
let cleanup: DisposableStack;

beforeEach(() => {
  cleanup = new DisposableStack();
  directory = mkdtempSync(join(tmpdir(), "import-device-"));
  cleanup.defer(() => rmSync(directory, { recursive: true }));
});
afterEach(() => cleanup.dispose());

/** A block device of 16 MiB that is full of an older disk. */
function usedDevice(name: string): string {
  const backing = join(directory, name);
  writeFileSync(backing, Buffer.alloc(16 * MIB, 0xff));
  const device = execFileSync("losetup", ["--find", "--show", backing], { encoding: "utf8" }).trim();
  cleanup.defer(() => execFileSync("losetup", ["--detach", device]));
  return device;
}

async function importInto(device: string, source: ImportSource, sizeBytes = 16 * MIB) {
  const target = { kind: "device", path: device, sizeBytes } as const;
  const config = { version: 1, source, target, scratchDirectory: directory, log: { level: "info" } } as const;
  const openDevice = async (path: string, { readOnly }: { readOnly: boolean }) => openFile(path, { write: !readOnly });
  await runImport(config, { progress: new ProgressMeter(), log: recordingLog().log, openDevice });
  return readFileSync(device);
}

/** Data, zeroes of many lengths, and an end that is no multiple of 4096. */
function oddDisk(): Buffer {
  const disk = Buffer.alloc(8 * MIB + 512);
  for (const at of [0, 4096, 200_000, 3 * MIB + 512, disk.length - 700]) randomBytes(700).copy(disk, at);
  randomBytes(100_000).copy(disk, 5 * MIB);
  return disk;
}

describe("a block device that held another disk", () => {
  it.each(["raw", "qcow2", "qcow2 of 512"])(
    "holds the new one and nothing of the old one beside it: %s",
    async (format) => {
      const root = join(directory, "image");
      mkdirSync(join(root, "disk"), { recursive: true });
      const disk = oddDisk();
      const raw = join(directory, "raw");
      writeFileSync(raw, disk);
      const options = format.endsWith("512") ? ["-o", "cluster_size=512"] : [];
      const path = join(root, "disk", "disk");
      execFileSync("qemu-img", ["convert", "-f", "raw", "-O", format.replace(/ .*/, ""), ...options, raw, path]);
      const device = await importInto(usedDevice("device"), { kind: "image", imageRoot: root });
      expect(device.subarray(0, disk.length).equals(disk)).toBe(true);
      expect(device.subarray(disk.length, disk.length + MIB).every((byte) => byte === 0)).toBe(true);
      expect(device.subarray(-MIB).every((byte) => byte === 0)).toBe(true);
    },
  );

  it("is copied to another one", async () => {
    const source = usedDevice("source");
    const volume = { kind: "device", path: source } as const;
    const copy = await importInto(usedDevice("copy"), { kind: "disk", volume });
    expect(copy.equals(Buffer.alloc(16 * MIB, 0xff))).toBe(true);
  });

  it("is not copied while another one on the node can write to it", async () => {
    const [source, copy] = [usedDevice("source"), usedDevice("copy")];
    const terminationMessagePath = join(directory, "last-word");
    const config = {
      version: 1,
      source: { kind: "disk", volume: { kind: "device", path: source } },
      target: { kind: "device", path: copy, sizeBytes: 16 * MIB },
      scratchDirectory: directory,
      terminationMessagePath,
      log: { level: "error" },
    };
    const lastWord = async () => {
      const main = join(import.meta.dirname, "../main.ts");
      await once(spawn(process.execPath, [main, "import", JSON.stringify(config)], { stdio: "ignore" }), "exit");
      return JSON.parse(readFileSync(terminationMessagePath, "utf8"));
    };
    {
      using _writer = openFile(source, { write: true, exclusive: true });
      expect(await lastWord()).toMatchObject({
        reason: "SourceInUse",
        message: `${source} is in use by another one on this node; stop that one first`,
      });
    }
    expect(await lastWord()).toMatchObject({ reason: "Completed" });
  }, 60_000);

  it("is refused where it is smaller than the disk", async () => {
    const volume = { kind: "device", path: usedDevice("source") } as const;
    const outcome = importInto(usedDevice("small"), { kind: "disk", volume }, 8 * MIB);
    await expect(outcome).rejects.toMatchObject({ reason: "TargetTooSmall" });
  });
});
