import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { DiskSource } from "../../api/machine-config.ts";
import { DiskError } from "./disk-error.ts";
import { IoPool } from "./io-pool.ts";
import { openDisk } from "./open-disks.ts";
import type { Storage } from "./storage.ts";
import { readDisk, writeDisk } from "./testing/memory-buffer.ts";

const EBADF = 9;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "iso-disks-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const open = (source: DiskSource) =>
  openDisk({ name: "seed", readOnly: true, queues: 1, source }, { pool: new IoPool() });
const files = (volumeLabel = "cfg") => open({ kind: "files", directory, volumeLabel });
const who = { instanceId: "0f8c1c1a-7c51", localHostname: "web.shop" };

async function refused(opening: Promise<unknown>, message: RegExp): Promise<void> {
  await expect(opening).rejects.toThrow(DiskError);
  await expect(opening).rejects.toThrow(message);
}

/** What a guest finds on the disk: its label, and its files. */
async function contents(disk: Storage): Promise<{ label: string; files: Record<string, string> }> {
  const image = join(directory, "..image");
  writeFileSync(image, await readDisk(disk, 0, disk.sizeBytes));
  const isoinfo = (...options: string[]) => execFileSync("isoinfo", ["-i", image, "-R", ...options]).toString();
  const names = isoinfo("-f")
    .split("\n")
    .filter((line) => line !== "");
  return {
    label: /^Volume id: (.*)$/m.exec(isoinfo("-d"))?.[1] ?? "",
    files: Object.fromEntries(names.map((name) => [name.slice(1), isoinfo("-x", name)])),
  };
}

/** As the kubelet mounts a ConfigMap: names are links through ..data into the directory of one moment. */
function mountConfigMap(data: Record<string, string>, moment = "..2026_01_02"): void {
  mkdirSync(join(directory, moment));
  for (const [key, value] of Object.entries(data)) {
    writeFileSync(join(directory, moment, key), value);
    symlinkSync(join("..data", key), join(directory, key));
  }
  symlinkSync(moment, join(directory, "..data"));
}

describe("a disk of files", () => {
  it("has the keys of a mounted ConfigMap, and nothing of how they are mounted", async () => {
    mountConfigMap({ "nginx.conf": "worker_processes 1;", "a-long_Key.with.dots": "x" });
    const disk = await files("web-conf");
    expect(disk.readOnly).toBe(true);
    expect(await contents(disk)).toEqual({
      label: "web-conf",
      files: { "nginx.conf": "worker_processes 1;", "a-long_Key.with.dots": "x" },
    });
    await disk.close();
  });

  it("has the files of any other directory", async () => {
    writeFileSync(join(directory, "one"), "1");
    symlinkSync("one", join(directory, "two"));
    const disk = await files();
    expect((await contents(disk)).files).toEqual({ one: "1", two: "1" });
    await disk.close();
  });

  it("stays as it was when it was opened, and cannot be written", async () => {
    mountConfigMap({ key: "before" });
    const disk = await files();
    writeFileSync(join(directory, "..2026_01_02", "key"), "after");
    expect(await writeDisk(disk, 0, new Uint8Array(512))).toBe(EBADF);
    expect((await contents(disk)).files).toEqual({ key: "before" });
    await disk.close();
  });

  it("does not follow links out of its directory", async () => {
    symlinkSync("/etc/hostname", join(directory, "secret"));
    await refused(files(), /disk seed: .*secret cannot be read .*ENOENT/);
  });

  it("takes neither directories nor FIFOs, and no more than its limit", async () => {
    mkdirSync(join(directory, "sub"));
    await refused(files(), /sub is not a regular file/);
    rmSync(join(directory, "sub"), { recursive: true });
    execFileSync("mkfifo", [join(directory, "pipe")]);
    await refused(files(), /pipe is not a regular file/);
    rmSync(join(directory, "pipe"));
    for (const name of ["a", "b", "c"]) {
      writeFileSync(join(directory, name), "");
      truncateSync(join(directory, name), 1.5 * 2 ** 20);
    }
    await refused(files(), /more than 4194304 bytes; put large data on a volume/);
  });

  it("is refused where its directory is not mounted", async () => {
    await refused(
      open({ kind: "files", directory: join(directory, "none"), volumeLabel: "x" }),
      /check that its volume/,
    );
  });
});

describe("a seed for cloud-init", () => {
  it("has what NoCloud reads, under the label that it looks for", async () => {
    mountConfigMap({ "seed-user-data": "#cloud-config\nhostname: x\n", "seed-network-data": "version: 2\n" });
    const disk = await open({
      kind: "cloudInit",
      userDataPath: join(directory, "seed-user-data"),
      networkDataPath: join(directory, "seed-network-data"),
      ...who,
    });
    expect(await contents(disk)).toEqual({
      label: "cidata",
      files: {
        "user-data": "#cloud-config\nhostname: x\n",
        "network-config": "version: 2\n",
        "meta-data": 'instance-id: "0f8c1c1a-7c51"\nlocal-hostname: "web.shop"\n',
      },
    });
    await disk.close();
  });

  it("without user data has an empty configuration, so that cloud-init takes it all the same", async () => {
    const disk = await open({ kind: "cloudInit", ...who });
    expect((await contents(disk)).files).toEqual({
      "user-data": "#cloud-config\n",
      "meta-data": expect.stringContaining("instance-id"),
    });
    await disk.close();
  });

  it("names the file that is missing, and never tells what is in the others", async () => {
    writeFileSync(join(directory, "user"), "password: hunter2");
    const source = { kind: "cloudInit", userDataPath: join(directory, "user"), ...who } as const;
    const opening = open({ ...source, networkDataPath: join(directory, "net") });
    await refused(opening, /disk seed: .*\/net cannot be read .*ENOENT.*; check that it is there/);
    await expect(opening).rejects.not.toThrow(/hunter2/);
    truncateSync(join(directory, "user"), 5 * 2 ** 20);
    await refused(open(source), /the files of the seed have more than 4194304 bytes/);
  });
});
