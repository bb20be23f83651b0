import { fstatSync } from "node:fs";
import { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { asDiskError, DiskError } from "./disk-error.ts";

/** Opens the directory of a disk's volume, to look up names in it. Throws DiskError. */
export function openVolumeDirectory(name: string, path: string): OwnedFd {
  return asDiskError(name, `${path} cannot be opened`, "check that its volume is mounted", () => {
    using directory = openFile(path);
    if (!fstatSync(directory.fd).isDirectory()) throw new DiskError(name, `${path} is not a directory`);
    return new OwnedFd(directory.take());
  });
}
