import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskSource } from "../../api/machine-config.ts";
import { until } from "../testing/until.ts";
import { IoPool } from "./io-pool.ts";
import { openDisk } from "./open-disks.ts";
import { PatientDisk } from "./patient-disk.ts";
import { openRawDisk } from "./raw-disk.ts";
import { readDisk, writeDisk } from "./testing/memory-buffer.ts";

// Needs root: file systems are mounted, and block devices made. Nothing is sent to KVM.
let directory: string;
let cleanup: DisposableStack;

beforeEach(() => {
  cleanup = new DisposableStack();
  directory = mkdtempSync(join(tmpdir(), "disks-"));
  cleanup.defer(() => rmSync(directory, { recursive: true }));
});
afterEach(() => cleanup.dispose());

/** A block device of a MiB, and two nodes for it, as two containers have them. */
function blockDevice(): readonly [string, string] {
  const backing = join(directory, "backing");
  writeFileSync(backing, new Uint8Array(1 << 20));
  const device = execFileSync("losetup", ["--find", "--show", backing], { encoding: "utf8" }).trim();
  cleanup.defer(() => execFileSync("losetup", ["--detach", device]));
  const [major = "", minor = ""] = readFileSync(`/sys/block/${basename(device)}/dev`, "utf8")
    .trim()
    .split(":");
  const node = (name: string) => {
    const path = `/dev/shm/${basename(directory)}-${name}`;
    execFileSync("mknod", ["-m", "0600", path, "b", major, minor]);
    cleanup.defer(() => rmSync(path));
    return path;
  };
  return [node("one"), node("two")];
}

describe("a block device", () => {
  const open = (path: string, readOnly = false) => openRawDisk("data", path, new IoPool(), { readOnly });

  it("is read and written past the page cache, and refused to a second machine with a node of its own", async () => {
    const [one, two] = blockDevice();
    const disk = await open(one);
    expect(disk.sizeBytes).toBe(1 << 20);
    expect(await writeDisk(disk, 4096, new Uint8Array(4096).fill(5))).toBe(0);
    expect(await readDisk(disk, 4096, 4096)).toEqual(new Uint8Array(4096).fill(5));
    const inUse = /disk data: .*two is in use by another virtual machine on this node, or mounted there; stop that one/;
    await expect(open(two)).rejects.toThrow(inUse);
    const refusal = Object.assign(new Error("the node agent refused"), { code: "DeviceBusy" });
    const byAgent = { readOnly: false, openBlockDevice: () => Promise.reject(refusal) };
    await expect(openRawDisk("data", two, new IoPool(), byAgent)).rejects.toThrow(inUse);
    await disk.close();
    await (await open(two)).close();
  });

  it("has its new size once it is asked to grow, and not more than there is", async () => {
    const [one] = blockDevice();
    const disk = await open(one);
    await expect(disk.grow(2 << 20)).rejects.toThrow(/has 1048576 bytes, fewer than the 2097152 asked for/);
    truncateSync(join(directory, "backing"), 2 << 20);
    execFileSync("losetup", [
      "--set-capacity",
      execFileSync("losetup", ["-j", join(directory, "backing"), "-O", "NAME", "-n"], { encoding: "utf8" }).trim(),
    ]);
    await disk.grow(1.5 * 2 ** 20);
    expect(disk.sizeBytes).toBe(2 << 20);
    await disk.grow(1.5 * 2 ** 20);
    expect(await writeDisk(disk, (2 << 20) - 4096, new Uint8Array(4096).fill(8))).toBe(0);
    await disk.close();
  });

  it("is read by several", async () => {
    const [one, two] = blockDevice();
    const disks = [await open(one, true), await open(two, true), await open(one, true)];
    for (const disk of disks) await disk.close();
  });
});

/** A file system in memory, of the size and number of files that are given. */
function smallFileSystem(options: string): string {
  const path = join(directory, "small");
  mkdirSync(path);
  execFileSync("mount", ["-t", "tmpfs", "-o", options, "none", path]);
  cleanup.defer(() => execFileSync("umount", ["--lazy", path]));
  return path;
}

const openSource = async (source: DiskSource) =>
  new PatientDisk(await openDisk({ name: "data", readOnly: false, queues: 1, source }, { pool: new IoPool() }));

describe("a file system that is full", () => {
  it("has no claim's disk made in it, and says so", async () => {
    const path = smallFileSystem("size=1m,nr_inodes=1");
    const opening = openSource({ kind: "directory", path, sizeBytes: 4096 });
    await expect(opening).rejects.toThrow(/disk data: .*disk\.img cannot be made .*ENOSPC.* has room/);
  });

  const image = (small: string): DiskSource => {
    mkdirSync(join(directory, "image", "disk"), { recursive: true });
    writeFileSync(join(directory, "image", "disk", "base"), new Uint8Array(4 << 20).fill(1));
    return { kind: "image", imageRoot: join(directory, "image"), overlayPath: join(small, "overlay") };
  };
  it.each<[string, (small: string) => DiskSource, number, number]>([
    ["raw disk", (path) => ({ kind: "directory", path, sizeBytes: 4 << 20 }), 0, 1536],
    ["image's overlay, in whole clusters,", image, 1, 1 << 20],
    ["image's overlay, in parts of clusters,", image, 1, (1 << 20) + 1536],
  ])(
    "has a write to its %s wait, part of which fits, and all of it is there in the end",
    async (_what, source, before, offset) => {
      const small = smallFileSystem("size=1m");
      const disk = await openSource(source(small));
      const filler = join(small, "filler");
      writeFileSync(filler, new Uint8Array(896 << 10));
      const events: string[] = [];
      disk.listener = { full: () => void events.push("full"), room: () => void events.push("room") };
      const data = Uint8Array.from({ length: 512 << 10 }, (_, i) => (i >>> 9) + 2);
      const written = writeDisk(disk, offset, data);
      await until(() => disk.isFull);
      rmSync(filler);
      disk.retry();
      expect(await written).toBe(0);
      expect(events).toEqual(["full", "room"]);
      // Told as a difference, half a MiB would take minutes.
      expect(Buffer.compare(await readDisk(disk, offset, data.length), data)).toBe(0);
      expect(await readDisk(disk, offset - 512, 512)).toEqual(new Uint8Array(512).fill(before));
      expect(await readDisk(disk, offset + data.length, 512)).toEqual(new Uint8Array(512).fill(before));
      await disk.close();
    },
  );
});
