import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskConfig, DiskSource } from "../../api/machine-config.ts";
import { DiskError } from "./disk-error.ts";
import { IoPool } from "./io-pool.ts";
import { openDisk } from "./open-disks.ts";
import { finish, readDisk, writeDisk } from "./testing/memory-buffer.ts";

const GIB = 2 ** 30;

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "file-disks-"));
  file = join(directory, "disk.img");
});
afterEach(() => rmSync(directory, { recursive: true }));

const open = (source: DiskSource, readOnly = false) => {
  const config: DiskConfig = { name: "data", readOnly, queues: 1, source };
  return openDisk(config, { pool: new IoPool() });
};
const claim = (sizeBytes = GIB, readOnly = false) => open({ kind: "directory", path: directory, sizeBytes }, readOnly);
const empty = (sizeBytes = GIB) => open({ kind: "empty", path: file, sizeBytes });

async function refused(opening: Promise<unknown>, message: RegExp): Promise<void> {
  await expect(opening).rejects.toThrow(DiskError);
  await expect(opening).rejects.toThrow(message);
}

describe("the disk of a claim with a file system", () => {
  it("is made sparse, with the asked size, and is the only file", async () => {
    const disk = await claim(64 * GIB);
    expect(disk.sizeBytes).toBe(64 * GIB);
    expect(statSync(file)).toMatchObject({ size: 64 * GIB, blocks: 0 });
    expect(readdirSync(directory)).toEqual(["disk.img"]);
    await disk.close();
  });

  it("keeps what was written, to the next start", async () => {
    const first = await claim();
    await writeDisk(first, 4096, new Uint8Array(512).fill(7));
    expect(await finish((completion) => first.flush(completion))).toBe(0);
    await first.close();
    const second = await claim();
    expect(await readDisk(second, 4096, 512)).toEqual(new Uint8Array(512).fill(7));
    await second.close();
  });

  it("is grown when the claim is larger by now, and keeps its contents", async () => {
    writeFileSync(file, new Uint8Array(1024).fill(9));
    const disk = await claim(4096);
    expect(disk.sizeBytes).toBe(4096);
    expect(await readDisk(disk, 512, 1024)).toEqual(Uint8Array.from({ length: 1024 }, (_, i) => (i < 512 ? 9 : 0)));
    await disk.close();
  });

  it("is never shrunk", async () => {
    writeFileSync(file, new Uint8Array(8192));
    const disk = await claim(4096);
    expect(disk.sizeBytes).toBe(8192);
    await disk.close();
    expect(statSync(file).size).toBe(8192);
  });

  it("of a making that was cut short is made ready", async () => {
    writeFileSync(file, "");
    const disk = await claim(4096);
    expect(disk.sizeBytes).toBe(4096);
    await disk.close();
  });

  it("is data, whatever it begins with", async () => {
    const bytes = new Uint8Array(4096);
    bytes.set([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]);
    writeFileSync(file, bytes);
    const disk = await claim(4096);
    expect(disk.sizeBytes).toBe(4096);
    expect(await readDisk(disk, 0, 512)).toEqual(bytes.subarray(0, 512));
    await disk.close();
  });

  it("that is read-only is neither made, grown nor written", async () => {
    await refused(claim(4096, true), /disk data: .*disk\.img is missing; put a raw disk there/);
    expect(readdirSync(directory)).toEqual([]);
    writeFileSync(file, new Uint8Array(1024));
    const disk = await claim(4096, true);
    expect(disk).toMatchObject({ sizeBytes: 1024, readOnly: true });
    await disk.close();
    expect(statSync(file).size).toBe(1024);
  });

  it("is refused while another machine has it, whether it was there or is new", async () => {
    const disk = await claim();
    await refused(claim(), /disk data: .*disk\.img is in use by another virtual machine/);
    await refused(claim(2 * GIB), /in use/);
    expect(statSync(file).size).toBe(GIB);
    await disk.close();
    await (await claim()).close();
  });

  it("is not what a symbolic link leads to", async () => {
    const other = join(directory, "other");
    writeFileSync(other, new Uint8Array(4096));
    symlinkSync(other, file);
    await refused(claim(), /disk\.img is not a regular file; remove it/);
    rmSync(file);
    symlinkSync(join(directory, "not there"), file);
    await refused(claim(), /not a regular file/);
    expect(readdirSync(directory).sort()).toEqual(["disk.img", "other"]);
    expect(statSync(other).size).toBe(4096);
  });

  it("is neither a directory, a FIFO nor a device", async () => {
    mkdirSync(file);
    await refused(claim(), /not a regular file/);
    rmSync(file, { recursive: true });
    execFileSync("mkfifo", [file]);
    await refused(claim(), /not a regular file/);
    await refused(claim(4096, true), /not a regular file/);
  });

  it("of a size that is no whole sectors is refused when it need not grow", async () => {
    writeFileSync(file, new Uint8Array(5000));
    await refused(claim(4096), /has 5000 bytes, which is not a positive multiple of 512/);
    truncateSync(file, 5120);
    await (await claim(4096)).close();
  });

  it("is refused where its volume is not mounted, or is a file", async () => {
    await refused(
      open({ kind: "directory", path: join(directory, "none"), sizeBytes: 512 }),
      /none cannot be opened .*ENOENT.*; check that its volume is mounted/,
    );
    writeFileSync(file, "");
    await refused(open({ kind: "directory", path: file, sizeBytes: 512 }), /is not a directory/);
  });
});

describe("an empty disk", () => {
  it("is made anew at each start", async () => {
    const first = await empty(1 << 20);
    await writeDisk(first, 0, new Uint8Array(4096).fill(1));
    await refused(empty(), /in use by another virtual machine/);
    await first.close();
    const second = await empty(2 << 20);
    expect(second.sizeBytes).toBe(2 << 20);
    expect(await readDisk(second, 0, 4096)).toEqual(new Uint8Array(4096));
    expect(statSync(file).blocks).toBe(0);
    await second.close();
  });

  it("does not empty what a link leads to", async () => {
    const other = join(directory, "other");
    writeFileSync(other, "kept");
    symlinkSync(other, file);
    await refused(empty(), /not a regular file/);
    expect(readFileSync(other, "utf8")).toBe("kept");
  });
});

describe("a disk that a migration fills", () => {
  const incoming = (source: DiskSource) =>
    openDisk({ name: "data", readOnly: false, queues: 1, source }, { pool: new IoPool(), isIncoming: true });
  const copied = () => incoming({ kind: "directory", path: directory, sizeBytes: GIB, copied: true });

  it("in a claim is marked until it is claimed, and is an ordinary one then", async () => {
    const disk = await copied();
    expect(readdirSync(directory).sort()).toEqual(["disk.img", "disk.img.unfinished"]);
    expect(disk.contents?.()).toMatchObject({ sizeBytes: GIB, isBlank: true, outlivesProcess: true, overlay: null });
    await refused(claim(), /left unfinished; remove disk.img and disk.img.unfinished/);
    disk.claim?.();
    disk.claim?.();
    expect(readdirSync(directory)).toEqual(["disk.img"]);
    await disk.close();
    const kept = await claim();
    await kept.close();
    expect(readdirSync(directory)).toEqual(["disk.img"]);
  });

  it("goes with a launcher that never claims it, mark and all", async () => {
    const disk = await copied();
    await disk.close();
    expect(readdirSync(directory)).toEqual([]);
    const scratch = await incoming({ kind: "empty", path: file, sizeBytes: GIB });
    expect(readdirSync(directory)).toEqual(["disk.img"]);
    await scratch.close();
    expect(readdirSync(directory)).toEqual([]);
  });

  it("takes the place of what an earlier migration left, and of nothing else", async () => {
    writeFileSync(file, "half of it");
    await refused(copied(), /is there already, and would be overwritten; give the migration an empty claim/);
    expect(readFileSync(file, "utf8")).toBe("half of it");
    writeFileSync(`${file}.unfinished`, "");
    const disk = await copied();
    expect(await readDisk(disk, 0, 512)).toEqual(new Uint8Array(512));
    await disk.close();
  });

  it("is locked at once, while one that both sides have is not", async () => {
    const shared: DiskSource = { kind: "directory", path: directory, sizeBytes: GIB };
    const first = await claim();
    const second = await incoming(shared);
    expect(() => second.claim?.()).toThrow(/in use by another virtual machine/);
    await first.close();
    second.claim?.();
    await refused(claim(), /in use by another/);
    await second.close();
  });
});
