import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { cached } from "../dev-cluster/tools/cache.ts";
import { keyOf } from "../images/key.ts";
import { run } from "../lib/step.ts";
import { unpackOciArchive } from "../linux-lab/unpack-image.ts";

const images = join(import.meta.dirname, "../../dist/images");
const name = "guest-debian-cloud";

/** The cloud image of `hack/images/build` as a file of a web server: qcow2, and its checksum. */
export async function cloudImageFile(): Promise<{ readonly path: string; readonly sha256: string }> {
  const { digest } = JSON.parse(await readFile(join(images, `${name}.json`), "utf8")) as { digest: string };
  const directory = await cached({
    key: `cloud-image-file-${await keyOf([{ value: digest }, { path: import.meta.filename }])}`,
    title: "Making a qcow2 file of the cloud image",
    estimateSeconds: 15,
    build: async (into) => {
      const unpacked = join(into, "unpacked");
      await unpackOciArchive(join(images, `${name}.tar`), unpacked);
      const disk = join(unpacked, "disk/disk.img");
      await run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, join(into, "disk.qcow2")], {
        timeoutMs: 300_000,
      });
      await rm(unpacked, { recursive: true });
    },
  });
  const path = join(directory, "disk.qcow2");
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return { path, sha256: hash.digest("hex") };
}
