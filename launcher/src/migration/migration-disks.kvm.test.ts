import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskConfig, DiskSource } from "../../api/machine-config.ts";
import { until } from "../testing/until.ts";
import { begin, gone, MigrationLab, migrationOf, moved, reaches } from "./testing/migration-lab.ts";
import type { RealLauncher } from "./testing/real-launcher.ts";

const MIB = 2 ** 20;
const IMAGE_BYTES = 32 * MIB;
const CLAIM_BYTES = 48 * MIB;
const SECTOR = 512;

let lab: MigrationLab;
beforeEach(async () => {
  lab = await MigrationLab.make();
});
afterEach(() => lab[Symbol.dispose]());

const disk = (name: string, source: DiskSource): DiskConfig => ({ name, readOnly: false, queues: 1, source });

/** What one launcher has of storage: its own claim, and where its image, overlay and empty disk are. */
function storage(name: string, { image = 3, copied = true } = {}) {
  const at = join(lab.directory, name);
  const imageRoot = join(at, "image");
  mkdirSync(join(imageRoot, "disk"), { recursive: true });
  mkdirSync(join(at, "claim"));
  writeFileSync(join(imageRoot, "disk/disk.img"), new Uint8Array(IMAGE_BYTES).fill(image));
  const disks = [
    disk("data", { kind: "directory", path: join(at, "claim"), sizeBytes: CLAIM_BYTES, copied }),
    disk("root", { kind: "image", imageRoot, overlayPath: join(at, "overlay") }),
    disk("scratch", { kind: "empty", path: join(at, "scratch"), sizeBytes: 16 * MIB }),
  ];
  return { disks, claim: join(at, "claim"), overlay: join(at, "overlay"), scratch: join(at, "scratch") };
}

const DATA = 0;
const ROOT = 1;
const SCRATCH = 2;

async function ready(launcher: RealLauncher): Promise<RealLauncher> {
  await launcher.start();
  await launcher.attach();
  await launcher.said("READY");
  return launcher;
}

const write = (of: RealLauncher, on: number, sector: number, value: number) =>
  of.ask(`blkwrite ${on} ${sector} ${value}`, "blkwrite status 0");
const reads = (of: RealLauncher, on: number, sector: number, value: number) =>
  of.ask(`blkread ${on} ${sector}`, `blkread status 0 data 0x${value.toString(16)}\r\n`);

/** Writes what is not zeroes, which take no time to send: a limit of bytes a second has something to hold back. */
async function fill(of: RealLauncher, on: number, writes: number, bytes: number): Promise<void> {
  await of.ask("fill 0x1000000 256 7", "fill done");
  await of.ask(`blkbench ${on} 8 ${writes} ${bytes} 0 1`, `blkbench done ${writes} failed 0`);
}

const allocated = (path: string) => statSync(path).blocks * SECTOR;

describe("a machine whose disks the other launcher does not have", () => {
  it("takes them along, also what its guest writes meanwhile, twice, and holes stay holes", async () => {
    const [first, second, third, reference] = [storage("a"), storage("b"), storage("c"), storage("r")];
    await using source = await ready(await lab.launcher({ disks: first.disks }));
    await write(source, DATA, 20_000, 77);
    await write(source, DATA, CLAIM_BYTES / SECTOR - 1, 78);
    await write(source, ROOT, 5, 79);
    await source.ask(`blkzero ${ROOT} 80 64`, "blkzero status 0");
    await write(source, SCRATCH, 3000, 80);
    await using target = await (await lab.launcher({ disks: second.disks })).start("--receive");
    const before = readFileSync(join(first.claim, "disk.img"));
    await source.ask(`blkjournal ${DATA} 1 400`, "durable 5\r\n");
    await begin(source, target, { connections: 3 });
    const report = await gone(source);
    const last = Number(/.*durable (\d+)\r\n/s.exec(source.text)?.[1]);
    expect(last).toBeLessThan(400);
    await target.attach();
    await target.said("blkjournal done");
    // The guest was in the middle of it, and has come to its end elsewhere.
    const untouched = readFileSync(join(first.claim, "disk.img"));
    expect(untouched.equals(before)).toBe(false);
    await using other = await ready(await lab.launcher({ disks: reference.disks }));
    await write(other, DATA, 20_000, 77);
    await write(other, DATA, CLAIM_BYTES / SECTOR - 1, 78);
    await other.ask(`blkjournal ${DATA} 1 400`, "blkjournal done");
    const wanted = readFileSync(join(reference.claim, "disk.img"));
    expect(readFileSync(join(second.claim, "disk.img")).equals(wanted)).toBe(true);
    expect(readdirSync(second.claim)).toEqual(["disk.img"]);
    await reads(target, ROOT, 5, 79);
    await reads(target, ROOT, 100, 0);
    await target.ask(`blkread ${ROOT} 4`, "blkread status 0 data 0x303030303030303\r\n");
    await reads(target, SCRATCH, 3000, 80);
    await reads(target, SCRATCH, 3001, 0);
    expect(allocated(second.overlay)).toBeLessThanOrEqual(MIB);
    expect(allocated(second.scratch)).toBeLessThanOrEqual(MIB);
    expect(allocated(join(second.claim, "disk.img"))).toBeLessThanOrEqual(2 * MIB);
    expect(report.diskSentBytes).toBeGreaterThan(0);
    expect(report.diskSentBytes).toBeLessThan(CLAIM_BYTES);

    await write(target, ROOT, 6, 81);
    await target.ask(`blkdiscard ${DATA} 20000 8`, "blkdiscard status 0");
    await using last_ = await (await lab.launcher({ disks: third.disks })).start("--receive");
    await moved(target, last_);
    await last_.attach();
    await reads(last_, ROOT, 5, 79);
    await reads(last_, ROOT, 6, 81);
    await reads(last_, DATA, 20_000, 0);
    await reads(last_, DATA, CLAIM_BYTES / SECTOR - 1, 78);
    await reads(last_, SCRATCH, 3000, 80);
  });

  it("sends again what its guest writes, zeroes and discards after it was sent", async () => {
    const [here, there] = [storage("a"), storage("b")];
    await using source = await ready(await lab.launcher({ disks: here.disks }));
    const [writes, bytes] = [64, 65_536];
    await fill(source, DATA, writes, bytes);
    await write(source, DATA, 300, 1);
    await write(source, DATA, 600, 2);
    await write(source, ROOT, 300, 3);
    await using target = await (await lab.launcher({ disks: there.disks })).start("--receive");
    await begin(source, target, { bandwidthBytesPerSecond: 1_000_000, connections: 1 });
    // Threads go from the front to the back: what lies before is with the target by then.
    await until(async () => ((await migrationOf(source)).progress?.diskSentBytes ?? 0) > 16 * bytes);
    await write(source, DATA, 1, 77);
    await source.ask(`blkzero ${DATA} 300 8`, "blkzero status 0");
    await source.ask(`blkdiscard ${DATA} 600 8`, "blkdiscard status 0");
    await write(source, ROOT, 300, 78);
    expect((await migrationOf(source)).progress?.rounds).toBe(1);
    const { rounds } = await gone(source);
    expect(rounds).toBeGreaterThan(1);
    await target.attach();
    await reads(target, DATA, 1, 77);
    await reads(target, DATA, 300, 0);
    await reads(target, DATA, 600, 0);
    await reads(target, ROOT, 300, 78);
    expect(readFileSync(join(there.claim, "disk.img")).equals(readFileSync(join(here.claim, "disk.img")))).toBe(true);
  });

  it("stays where it is when that fails, and leaves nothing in the other place", async () => {
    const [here, there] = [storage("a"), storage("b")];
    await using source = await ready(await lab.launcher({ disks: here.disks }));
    await fill(source, DATA, 64, 65_536);
    await write(source, ROOT, 5, 79);
    const slow = { bandwidthBytesPerSecond: 1_000_000 };
    const target = await (await lab.launcher({ disks: there.disks })).start("--receive");
    await begin(source, target, slow);
    const { progress } = await reaches(source, "Copying");
    expect(progress?.diskRemainingBytes).toBeGreaterThan(0);
    expect(readdirSync(there.claim).sort()).toEqual(["disk.img", "disk.img.unfinished"]);
    expect((await source.call("POST", "/v1/migration/cancel")).status).toBe(200);
    expect((await target.ended()).termination?.reason).toBe("StateInvalid");
    expect([readdirSync(there.claim), existsSync(there.overlay), existsSync(there.scratch)]).toEqual([
      [],
      false,
      false,
    ]);

    // A target that dies cannot tidy up: the next one takes what it left for what it is.
    const dying = await (await lab.launcher({ disks: there.disks })).start("--receive");
    await begin(source, dying, slow);
    await reaches(source, "Copying");
    dying.signal("SIGKILL");
    await reaches(source, "Failed");
    expect(readdirSync(there.claim).sort()).toEqual(["disk.img", "disk.img.unfinished"]);
    await expect((await lab.launcher({ disks: there.disks })).start()).rejects.toThrow(/left unfinished/);
    await reads(source, ROOT, 5, 79);
    await using next = await (await lab.launcher({ disks: there.disks })).start("--receive");
    await moved(source, next);
    expect(readdirSync(there.claim)).toEqual(["disk.img"]);
    expect(readFileSync(join(there.claim, "disk.img")).equals(readFileSync(join(here.claim, "disk.img")))).toBe(true);
  });

  it("is refused, by the disk's name, where the other side's disk is another or already there", async () => {
    const here = storage("a");
    await using source = await ready(await lab.launcher({ disks: here.disks }));
    const refused = async (disks: readonly DiskConfig[]) => {
      await using target = await (await lab.launcher({ disks })).start("--receive");
      await begin(source, target);
      const { message } = await reaches(source, "Failed");
      await target.ended();
      return message;
    };
    expect(await refused(storage("b", { image: 4 }).disks)).toMatch(/disk root is over another image here/);
    const [claim, root, scratch] = storage("c").disks as [DiskConfig, DiskConfig, DiskConfig];
    const small = { ...claim, source: { ...claim.source, sizeBytes: MIB } as DiskSource };
    expect(await refused([small, root, scratch])).toMatch(/disk data has 50331648 bytes, and 1048576 in the target/);
    const shared = { ...scratch, source: here.disks[SCRATCH]?.source ?? scratch.source };
    const raw = join(lab.directory, "raw");
    writeFileSync(raw, "");
    truncateSync(raw, 16 * MIB);
    const outside = { ...shared, source: { kind: "raw", path: raw } } as const;
    expect(await refused([claim, root, outside])).toMatch(/disk scratch is on storage of this process's own/);
    const swapped = { ...root, source: { kind: "raw", path: raw, copied: true } } as const;
    expect(await refused([claim, swapped, scratch])).toMatch(
      /disk root is an image's here, and no image's in the target/,
    );
    const full = storage("d");
    writeFileSync(join(full.claim, "disk.img"), "somebody's");
    const launcher = await lab.launcher({ disks: full.disks });
    await expect(launcher.start("--receive")).rejects.toThrow(/disk.img is there already.*empty claim/);
    expect(readFileSync(join(full.claim, "disk.img"), "utf8")).toBe("somebody's");
    expect((await migrationOf(source)).message).toMatch(/the machine runs on here/);
    await source.ask("echo still", "still\r\n");
  });

  it("takes a disk into another kind of storage, over what that held", async () => {
    const here = storage("a");
    const raw = join(lab.directory, "device");
    writeFileSync(raw, new Uint8Array(CLAIM_BYTES).fill(0xee));
    await using source = await ready(await lab.launcher({ disks: here.disks.slice(0, 1) }));
    await write(source, DATA, 20_000, 77);
    const disks = [disk("data", { kind: "raw", path: raw, copied: true })];
    await using target = await (await lab.launcher({ disks })).start("--receive");
    await moved(source, target);
    await target.attach();
    await reads(target, DATA, 20_000, 77);
    await reads(target, DATA, 0, 0);
    expect(readFileSync(raw).equals(readFileSync(join(here.claim, "disk.img")))).toBe(true);
  });

  it("takes a claim that only its command line tells of, as large as the disk is by now", async () => {
    const [here, there] = [storage("a", { copied: false }), storage("b", { copied: false })];
    const [claim] = there.disks as [DiskConfig];
    const before = { ...claim, source: { ...claim.source, sizeBytes: MIB } as DiskSource };
    await using source = await ready(await lab.launcher({ disks: here.disks.slice(0, 1) }));
    await write(source, DATA, 20_000, 77);
    const launcher = await lab.launcher({ disks: [before] });
    await using target = await launcher.start("--receive", "--copied", `data=${CLAIM_BYTES}`);
    await moved(source, target);
    await target.attach();
    await reads(target, DATA, 20_000, 77);
    expect(readdirSync(there.claim)).toEqual(["disk.img"]);
    expect(statSync(join(there.claim, "disk.img")).size).toBe(CLAIM_BYTES);
  });
});
