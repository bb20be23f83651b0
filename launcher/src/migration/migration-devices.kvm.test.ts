import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskConfig } from "../../api/machine-config.ts";
import { begin, gone, MigrationLab, moved, reaches } from "./testing/migration-lab.ts";
import type { RealLauncher } from "./testing/real-launcher.ts";

// Needs root: block devices are made.
const MIB = 2 ** 20;
const DISK_BYTES = 48 * MIB;
const SECTOR = 512;
const OLD = 0xee;

let lab: MigrationLab;
let cleanup: DisposableStack;
beforeEach(async () => {
  cleanup = new DisposableStack();
  lab = cleanup.use(await MigrationLab.make());
});
afterEach(() => cleanup.dispose());

/** A block device that is full of an older disk. */
function usedDevice(name: string, sizeBytes = DISK_BYTES, ...options: string[]): string {
  // In memory: the guest flushes after each transaction.
  const backing = `/dev/shm/${basename(lab.directory)}-${name}`;
  cleanup.defer(() => rmSync(backing));
  writeFileSync(backing, Buffer.alloc(sizeBytes, OLD));
  const device = execFileSync("losetup", [...options, "--find", "--show", backing], { encoding: "utf8" }).trim();
  cleanup.defer(() => execFileSync("losetup", ["--detach", device]));
  return device;
}

const onDevice = (path: string): DiskConfig[] => [
  { name: "data", readOnly: false, queues: 1, source: { kind: "raw", path } },
];
const COPIED = ["--receive", "--copied", `data=${DISK_BYTES}`];

async function ready(launcher: RealLauncher): Promise<RealLauncher> {
  await launcher.start();
  await launcher.attach();
  await launcher.said("READY");
  return launcher;
}

const write = (of: RealLauncher, sector: number, value: number) =>
  of.ask(`blkwrite 0 ${sector} ${value}`, "blkwrite status 0");
const reads = (of: RealLauncher, sector: number, value: number) =>
  of.ask(`blkread 0 ${sector}`, `blkread status 0 data 0x${value.toString(16)}\r\n`);
const isSame = (one: string, other: string) =>
  readFileSync(one).subarray(0, DISK_BYTES).equals(readFileSync(other).subarray(0, DISK_BYTES));

describe("a machine on a block device that moves to another one", () => {
  it("takes all of it along, also zeroes and what its guest writes meanwhile, and leaves the rest of a larger one", async () => {
    const [here, there] = [usedDevice("here"), usedDevice("there", DISK_BYTES + MIB)];
    const reference = usedDevice("reference");
    const begun = async (device: string) => {
      const launcher = await ready(await lab.launcher({ disks: onDevice(device) }));
      await launcher.ask("blkzero 0 60000 8192", "blkzero status 0");
      await write(launcher, 60_100, 75);
      await write(launcher, DISK_BYTES / SECTOR - 1, 78);
      return launcher;
    };
    await using source = await begun(here);
    await using target = await (await lab.launcher({ disks: onDevice(there) })).start(...COPIED);
    // One that is being filled is nobody else's.
    await expect((await lab.launcher({ disks: onDevice(there) })).start()).rejects.toThrow(/is in use by another/);
    // It writes to the first sectors, among others.
    await source.ask("blkjournal 0 1 400", "durable 5\r\n");
    await begin(source, target, { connections: 3 });
    await gone(source);
    expect(Number(/.*durable (\d+)\r\n/s.exec(source.text)?.[1])).toBeLessThan(400);
    await target.attach();
    await target.said("blkjournal done");
    await using other = await begun(reference);
    await other.ask("blkjournal 0 1 400", "blkjournal done");
    expect(isSame(there, reference)).toBe(true);
    expect(isSame(here, there)).toBe(false);
    await reads(target, 60_000, 0);
    await reads(target, 60_100, 75);
    const beyond = readFileSync(there).subarray(DISK_BYTES);
    expect(beyond.every((byte) => byte === OLD)).toBe(true);
  });

  it("stays where it is when that fails, and nothing starts from the other until the next one has filled it", async () => {
    const [here, there] = [usedDevice("here"), usedDevice("there")];
    await using source = await ready(await lab.launcher({ disks: onDevice(here) }));
    await write(source, 0, 75);
    const before = readFileSync(here);
    for (const end of ["cancel", "kill"] as const) {
      const target = await (await lab.launcher({ disks: onDevice(there) })).start(...COPIED);
      await begin(source, target, { bandwidthBytesPerSecond: 1_000_000 });
      await reaches(source, "Copying");
      if (end === "kill") target.signal("SIGKILL");
      else expect((await source.call("POST", "/v1/migration/cancel")).status).toBe(200);
      await reaches(source, "Failed");
      await target.ended();
      const start = (await lab.launcher({ disks: onDevice(there) })).start();
      await expect(start).rejects.toThrow(/disk data: .* has what a migration left unfinished; .*whole where it was/);
    }
    await reads(source, 0, 75);
    expect(readFileSync(here).equals(before)).toBe(true);
    await using next = await (await lab.launcher({ disks: onDevice(there) })).start(...COPIED);
    await moved(source, next);
    expect(isSame(here, there)).toBe(true);
    await next.attach();
    await next.ask("echo still", "still\r\n");
    await next[Symbol.asyncDispose]();
    await using again = await ready(await lab.launcher({ disks: onDevice(there) }));
    await reads(again, 0, 75);
  });

  it("is refused where the other one is smaller, with both sizes, or has larger blocks", async () => {
    const refused = async (device: string) => (await lab.launcher({ disks: onDevice(device) })).start(...COPIED);
    await expect(refused(usedDevice("small", DISK_BYTES - MIB))).rejects.toThrow(
      /disk data: .* has 49283072 bytes, fewer than the 50331648 of the disk/,
    );
    const large = usedDevice("blocks", DISK_BYTES, "--sector-size", "4096");
    await expect(refused(large)).rejects.toThrow(/disk data: .* has blocks of 4096 bytes.* has 512/);
    expect(readFileSync(large).every((byte) => byte === OLD)).toBe(true);
  });
});

describe("a machine on a block device that moves to a file", () => {
  it("finds its disk there, and again on a device, by what the command lines say", async () => {
    const [here, there] = [usedDevice("here"), usedDevice("there")];
    const claim = join(lab.directory, "claim");
    mkdirSync(claim);
    const disks = onDevice(here);
    await using source = await ready(await lab.launcher({ disks }));
    await write(source, 0, 75);
    await using inFile = await (await lab.launcher({ disks })).start(
      "--receive",
      `--copied=data=${DISK_BYTES}@${claim}`,
    );
    await moved(source, inFile);
    await inFile.attach();
    await reads(inFile, 0, 75);
    expect(readdirSync(claim)).toEqual(["disk.img"]);
    expect(isSame(here, join(claim, "disk.img"))).toBe(true);
    await write(inFile, 0, 76);
    await using back = await (await lab.launcher({ disks })).start("--receive", `--copied=data=${DISK_BYTES}@${there}`);
    await moved(inFile, back);
    await back.attach();
    await reads(back, 0, 76);
    expect(isSame(join(claim, "disk.img"), there)).toBe(true);
  });
});
