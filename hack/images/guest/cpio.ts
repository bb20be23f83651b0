/** An entry of an initramfs. Paths have no leading slash. */
export type CpioEntry =
  | { readonly path: string; readonly directory: true }
  | { readonly path: string; readonly symlink: string }
  | { readonly path: string; readonly content: Uint8Array; readonly mode: number };

/**
 * An initramfs in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst), uncompressed:
 * all owned by root, all times 0, so that equal input gives equal bytes.
 */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.map((entry, index) => record(entry, index + 1));
  return Buffer.concat([...parts, record({ path: "TRAILER!!!", content: new Uint8Array(), mode: 0 }, 0)]);
}

function record(entry: CpioEntry, inode: number): Buffer {
  const body =
    "directory" in entry
      ? Buffer.alloc(0)
      : "symlink" in entry
        ? Buffer.from(entry.symlink)
        : Buffer.from(entry.content);
  const mode = "directory" in entry ? 0o040755 : "symlink" in entry ? 0o120777 : 0o100000 | entry.mode;
  const nameSize = Buffer.byteLength(entry.path) + 1;
  // magic, then 13 fields of 8 hexadecimal digits: ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor
  // rdevminor namesize check
  const fields = [inode, mode, 0, 0, 1, 0, body.length, 0, 0, 0, 0, nameSize, 0];
  const head = `070701${fields.map((value) => value.toString(16).padStart(8, "0")).join("")}${entry.path}\0`;
  return Buffer.concat([padded(Buffer.from(head)), padded(body)]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
