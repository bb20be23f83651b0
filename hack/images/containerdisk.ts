import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../lib/step.ts";
import type { ImageRecipe } from "./image.ts";
import { patternDisk } from "./testguest.ts";

const DISK_BYTES = 8 * 2 ** 20;
/** User and group of KubeVirt's launcher, which its images are made for (`ADD --chown=107:107 disk.qcow2 /disk/`). */
const KUBEVIRT_USER = 107;

/** A disk as KubeVirt has it in an image: one file of any name in /disk, which none but its launcher's user may read. */
export const containerDisk: ImageRecipe = {
  name: "containerdisk",
  about: "a disk in KubeVirt's layout, for tests",
  inputs: async () => [{ value: DISK_BYTES }],
  make: async () => ({
    layers: [{ files: [{ path: "disk/pattern.qcow2", content: await qcow2(), mode: 0o440, owner: KUBEVIRT_USER }] }],
  }),
};

async function qcow2(): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), "typevisor-containerdisk-"));
  try {
    const [raw, disk] = [join(directory, "disk.raw"), join(directory, "disk.qcow2")];
    await writeFile(raw, patternDisk(DISK_BYTES));
    await run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, disk]);
    return await readFile(disk);
  } finally {
    await rm(directory, { recursive: true });
  }
}
