import type { FileHandle } from "node:fs/promises";
import { BootImageError } from "./boot-image-error.ts";

/** A file that is read straight into guest memory. */
export interface FileSource {
  /** As the user knows it, for messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Reads up to `target.length` bytes from `offsetBytes` on; answers how many, 0 at the end of the file. */
  read(target: Uint8Array, offsetBytes: number): Promise<number>;
}

/** Bytes in memory as a file. */
export function bytesSource(name: string, bytes: Uint8Array): FileSource {
  return {
    name,
    sizeBytes: bytes.length,
    async read(target, offsetBytes) {
      const part = bytes.subarray(offsetBytes, offsetBytes + target.length);
      target.set(part);
      return part.length;
    },
  };
}

/** An open file; it stays the caller's to close. Throws BootImageError where it is not a regular file. */
export async function handleSource(name: string, handle: FileHandle): Promise<FileSource> {
  const stat = await handle.stat();
  if (!stat.isFile())
    throw new BootImageError(
      "unreadable",
      name,
      `this is ${stat.isDirectory() ? "a directory" : "not a regular file"}`,
      "Name the kernel or initrd file itself",
    );
  return {
    name,
    sizeBytes: stat.size,
    async read(target, offsetBytes) {
      const { bytesRead } = await handle.read(target, 0, target.length, offsetBytes);
      return bytesRead;
    },
  };
}

/** Fills `target` from `offsetBytes` on. Throws BootImageError where the file ends early or can not be read. */
export async function readFully(source: FileSource, target: Uint8Array, offsetBytes: number): Promise<void> {
  let done = 0;
  while (done < target.length) {
    const count = await readSome(source, target.subarray(done), offsetBytes + done);
    if (count === 0)
      throw new BootImageError(
        "truncated",
        source.name,
        `the file ends after ${offsetBytes + done} of ${offsetBytes + target.length} bytes`,
        "Copy it again, whole",
      );
    done += count;
  }
}

async function readSome(source: FileSource, target: Uint8Array, offsetBytes: number): Promise<number> {
  try {
    return await source.read(target, offsetBytes);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new BootImageError(
      "unreadable",
      source.name,
      `reading fails (${reason})`,
      "Check the volume that the file is on",
      { cause: error },
    );
  }
}
