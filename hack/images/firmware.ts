import { copyFile, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import type { OciLayer } from "../lib/oci.ts";
import { DebianRelease } from "./debian-packages.ts";
import { keyOf } from "./key.ts";

/** EDK2 as it is built for Cloud Hypervisor (BSD-2-Clause-Patent; its copyright file names the rest). */
const packageName = "cloudhv-efi-x86-64";
/** No release of Debian has it yet. */
export const firmwareSuite = "sid";

export const firmwareFile = "CLOUDHV_EFI.fd";
/** Where the launcher's image has it: the operator names that path in each machine.json without a kernel. */
const directoryInImage = "usr/share/typevisor";

/** What the firmware's layer is made of. */
export async function firmwareInputs(): Promise<unknown> {
  return new DebianRelease(firmwareSuite).resolve([packageName]);
}

/** The layer with the firmware and its license. */
export async function firmwareLayer(): Promise<OciLayer> {
  const directory = await firmwareDirectory();
  return {
    files: [
      { path: `${directoryInImage}/${firmwareFile}`, source: join(directory, firmwareFile), mode: 0o644 },
      { path: `usr/share/doc/${packageName}/copyright`, source: join(directory, "copyright"), mode: 0o644 },
    ],
  };
}

/** Directory with the firmware's file and its license, as Debian packages them; apt has checked the signature. */
export async function firmwareDirectory(): Promise<string> {
  const release = new DebianRelease(firmwareSuite);
  const packages = await release.resolve([packageName]);
  return cached({
    key: `firmware-${await keyOf([{ value: packages }])}`,
    title: "Fetching UEFI firmware",
    estimateSeconds: 5,
    build: async (directory) => {
      const unpacked = join(directory, ".package");
      await mkdir(unpacked);
      await release.unpack(packages, unpacked);
      const share = join(unpacked, "usr/share");
      await copyFile(join(share, packageName, "CLOUDHV.fd"), join(directory, firmwareFile));
      await copyFile(join(share, "doc", packageName, "copyright"), join(directory, "copyright"));
      await rm(unpacked, { recursive: true });
    },
  });
}
