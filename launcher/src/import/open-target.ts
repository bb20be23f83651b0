import { fstatSync } from "node:fs";
import type { ImportTargetConfig } from "../../api/import.ts";
import { errorText } from "../log/error-text.ts";
import { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { lockFile } from "../sys/file-lock.ts";
import { openInRoot } from "../sys/open-in-root.ts";
import { ImportError } from "./import-error.ts";
import { DeviceTarget, FileTarget, type ImportTarget } from "./target.ts";

/** The one file of a volume that is a disk: where launchers look for it. */
export const DISK_FILE = "disk.img";

export type OpenBlockDevice = (path: string, access: { readonly readOnly: boolean }) => Promise<OwnedFd>;

/** Opens what the disk is written to: with what an import before this one left there, until `restart`. Throws ImportError. */
export async function openTarget(config: ImportTargetConfig, openDevice: OpenBlockDevice): Promise<ImportTarget> {
  if (config.kind === "device") {
    const device = await openDevice(config.path, { readOnly: false });
    return new DeviceTarget(device, config.sizeBytes);
  }
  try {
    return openFileTarget(config);
  } catch (cause) {
    if (cause instanceof ImportError) throw cause;
    const message = `${DISK_FILE} cannot be made in the volume (${errorText(cause)}); check that it is writable for group 10001`;
    throw new ImportError("TargetFailed", message, { cause });
  }
}

function openFileTarget({ path, sizeBytes }: ImportTargetConfig): FileTarget {
  using cleanup = new DisposableStack();
  const directory = cleanup.use(openFile(path));
  const file = cleanup.use(
    openInRoot(directory.fd, DISK_FILE, { write: true, create: true, noFollow: true, noSymlinks: true }),
  );
  if (!fstatSync(file.fd).isFile()) throw new ImportError("TargetFailed", `${DISK_FILE} in the volume is no file`);
  if (lockFile(file.fd, "exclusive") === "taken")
    throw new ImportError("TargetFailed", `${DISK_FILE} in the volume is in use by another one`);
  const target = new FileTarget(new OwnedFd(file.take()), new OwnedFd(directory.take()), sizeBytes);
  cleanup.move();
  return target;
}
