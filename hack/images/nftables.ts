import { copyFile, mkdir, realpath, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import type { OciLayer } from "../lib/oci.ts";
import { DebianRelease } from "./debian-packages.ts";
import { suite } from "./image.ts";
import { keyOf } from "./key.ts";
import { libraryDir, listLibraries } from "./runtime.ts";

/** libnftables, which the node agent loads, and what it is linked to. */
const packageNames = ["libnftables1", "libmnl0", "libnftnl11", "libxtables12", "libjansson4", "libgmp10"];
/** For its loader alone: the runtime layer has it. */
const libcPackage = "libc6";
const library = "libnftables.so.1";

export async function nftablesInputs(): Promise<unknown> {
  return new DebianRelease(suite).resolve([...packageNames, libcPackage]);
}

/** The layer with the libraries and their licenses. */
export async function nftablesLayer(): Promise<OciLayer> {
  const release = new DebianRelease(suite);
  const packages = await release.resolve([...packageNames, libcPackage]);
  const dir = await cached({
    key: `nftables-${await keyOf([{ value: packages }, { path: import.meta.filename }])}`,
    title: "Fetching libnftables",
    estimateSeconds: 5,
    build: async (directory) => {
      const scratch = join(directory, ".packages");
      await release.unpack(packages, scratch);
      await copyLibraries(scratch, directory);
      for (const name of packageNames) {
        const notices = join("usr/share/doc", name);
        await mkdir(join(directory, notices), { recursive: true });
        await copyFile(join(scratch, notices, "copyright"), join(directory, notices, "copyright"));
      }
      await rm(scratch, { recursive: true });
    },
  });
  return { dir };
}

/** Copies the library and what the dynamic loader of the packages says that it needs, but the C library. */
async function copyLibraries(packages: string, directory: string): Promise<void> {
  const from = join(packages, libraryDir);
  await mkdir(join(directory, libraryDir), { recursive: true });
  const needed = await listLibraries(packages, join(from, library));
  for (const path of [join(from, library), ...needed]) {
    if (/^lib[cm]\.so/.test(basename(path))) continue;
    await copyFile(await realpath(path), join(directory, libraryDir, basename(path)));
  }
}
