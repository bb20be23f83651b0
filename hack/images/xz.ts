import { copyFile, mkdir, realpath, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import type { OciLayer } from "../lib/oci.ts";
import { DebianRelease } from "./debian-packages.ts";
import { suite } from "./image.ts";
import { keyOf } from "./key.ts";

/** xz, which Node has not, and the one library that it needs beside the runtime's. */
const packageNames = ["xz-utils", "liblzma5"];
const libraryDirectory = "usr/lib/x86_64-linux-gnu";

export async function xzInputs(): Promise<unknown> {
  return new DebianRelease(suite).resolve(packageNames);
}

/** The layer with xz, for importing disks that are compressed with it. */
export async function xzLayer(): Promise<OciLayer> {
  const release = new DebianRelease(suite);
  const packages = await release.resolve(packageNames);
  const directory = await cached({
    key: `xz-${await keyOf([{ value: packages }, { path: import.meta.filename }])}`,
    title: "Fetching xz",
    estimateSeconds: 5,
    build: async (target) => {
      const unpacked = join(target, ".packages");
      await release.unpack(packages, unpacked);
      const take = async (path: string) => {
        await mkdir(join(target, path, ".."), { recursive: true });
        await copyFile(await realpath(join(unpacked, path)), join(target, path));
      };
      await take("usr/bin/xz");
      await take(`${libraryDirectory}/liblzma.so.5`);
      for (const name of packageNames) {
        const copyright = await realpath(join(unpacked, "usr/share/doc", name, "copyright"));
        await mkdir(join(target, "usr/share/doc", name), { recursive: true });
        await copyFile(copyright, join(target, "usr/share/doc", name, basename(copyright)));
      }
      await rm(unpacked, { recursive: true });
    },
  });
  return { dir: directory };
}
