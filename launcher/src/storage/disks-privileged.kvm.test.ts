import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { IoPool } from "./io-pool.ts";
import { openDisk } from "./open-disks.ts";
import { openRawDisk } from "./raw-disk.ts";
import { readDisk, writeDisk } from "./testing/memory-buffer.ts";

// Needs root: file systems are mounted, and block devices made. Nothing is sent to KVM.
jest.setTimeout(60_000);

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
    await expect(open(two)).rejects.toThrow(/disk data: .*two is in use by another virtual machine/);
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

describe("a file system without room for one more file", () => {
  it("has no claim's disk made in it, and says so", async () => {
    const full = join(directory, "full");
    mkdirSync(full);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,nr_inodes=1", "none", full]);
    cleanup.defer(() => execFileSync("umount", [full]));
    const source = { kind: "directory", path: full, sizeBytes: 4096 } as const;
    const opening = openDisk({ name: "data", readOnly: false, queues: 1, source }, new IoPool());
    await expect(opening).rejects.toThrow(/disk data: .*disk\.img cannot be made .*ENOSPC.* has room/);
  });
});
