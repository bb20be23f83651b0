import { fstatSync, read } from "node:fs";
import { promisify } from "node:util";
import type { ImportSource } from "../../api/import.ts";
import { errorText } from "../log/error-text.ts";
import { DiskError } from "../storage/disk-error.ts";
import { openImageFile } from "../storage/image-file.ts";
import { blockDeviceSizeBytes } from "../sys/block-device.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile, seekData, seekHole } from "../sys/file-io.ts";
import { lockFile } from "../sys/file-lock.ts";
import { openInRoot } from "../sys/open-in-root.ts";
import { ImportError } from "./import-error.ts";
import { DISK_FILE, type OpenBlockDevice } from "./open-target.ts";
import type { ProgressMeter } from "./progress.ts";
import { BUFFER_BYTES, writeSparse } from "./sparse-writer.ts";
import type { ImportTarget } from "./target.ts";

const readAt = promisify(read);

/** The disk's file of an image; nothing in the image leads out of it. Throws ImportError. */
export function openImageSource(source: Extract<ImportSource, { kind: "image" }>): OwnedFd {
  try {
    return openImageFile("import", source);
  } catch (cause) {
    if (!(cause instanceof DiskError)) throw cause;
    throw new ImportError("SourceInvalid", cause.message.replace(/^disk import: /, ""), { cause });
  }
}

/** Another disk, to be read. Throws ImportError, also where a machine writes to it. */
export async function openDiskSource(
  { volume }: Extract<ImportSource, { kind: "disk" }>,
  openDevice: OpenBlockDevice,
): Promise<OwnedFd> {
  if (volume.kind === "device") return openDevice(volume.path, { readOnly: true });
  let file: OwnedFd;
  try {
    using directory = openFile(volume.path);
    file = openInRoot(directory.fd, DISK_FILE, { noFollow: true, noSymlinks: true });
  } catch (cause) {
    throw new ImportError("SourceInvalid", `the source has no ${DISK_FILE} that can be read (${errorText(cause)})`, {
      cause,
    });
  }
  if (fstatSync(file.fd).isFile() && lockFile(file.fd, "shared") !== "taken") return file;
  using _file = file;
  if (!fstatSync(file.fd).isFile()) throw new ImportError("SourceInvalid", `${DISK_FILE} of the source is no file`);
  throw new ImportError("SourceInUse", "a machine writes to the source; stop it first");
}

/** Size of a file or device. */
export function sizeOf(fd: number): number {
  const stat = fstatSync(fd);
  return stat.isBlockDevice() ? blockDeviceSizeBytes(fd) : stat.size;
}

/** Copies a raw disk, and looks at its holes only from afar. */
export async function copyRaw(fd: number, sizeBytes: number, to: CopyTarget): Promise<void> {
  const { target, progress, signal } = to;
  const hasHoles = fstatSync(fd).isFile();
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  for (let at = 0; at < sizeBytes; ) {
    signal?.throwIfAborted();
    const dataStart = Math.min(hasHoles ? (seekData(fd, at) ?? sizeBytes) : at, sizeBytes);
    if (dataStart > at) {
      await target.zero(at, dataStart - at);
      progress.add(dataStart - at);
    }
    const dataEnd = Math.min(hasHoles ? (seekHole(fd, dataStart) ?? sizeBytes) : sizeBytes, sizeBytes);
    for (at = dataStart; at < dataEnd; ) {
      signal?.throwIfAborted();
      const { bytesRead } = await readAt(fd, buffer, 0, Math.min(BUFFER_BYTES, dataEnd - at), at);
      if (bytesRead === 0) throw new ImportError("SourceIncomplete", `the source ends at ${at} of ${sizeBytes} bytes`);
      await writeSparse(target, buffer.subarray(0, bytesRead), at);
      progress.add(bytesRead);
      at += bytesRead;
    }
  }
}

export interface CopyTarget {
  readonly target: ImportTarget;
  readonly progress: ProgressMeter;
  readonly signal?: AbortSignal;
}
