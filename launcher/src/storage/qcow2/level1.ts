import { preadFully } from "../../sys/file-io.ts";
import { DiskError } from "../disk-error.ts";
import { hostOffset } from "./cluster-entry.ts";
import type { Qcow2Header } from "./header.ts";

export const ENTRY_BYTES = 8;
const CHUNK_BYTES = 64 * 1024;

/** Where each L2 table of the disk begins in the file, 0 where there is none. Throws DiskError where one cannot be. */
export function readLevel1(disk: string, fd: number, header: Qcow2Header): Float64Array {
  const tables = new Float64Array(header.l1Entries);
  const chunk = new Uint8Array(Math.min(CHUNK_BYTES, tables.length * ENTRY_BYTES));
  const fields = new DataView(chunk.buffer);
  for (let i = 0; i < tables.length; i++) {
    const at = (i * ENTRY_BYTES) % CHUNK_BYTES;
    if (at === 0) preadFully(fd, chunk, header.l1OffsetBytes + i * ENTRY_BYTES);
    tables[i] = level1Entry(disk, header, { index: i, fields, at });
  }
  return tables;
}

/** Where L2 table `index` begins, from its entry at `at` of `fields`; 0 where there is none. Throws DiskError. */
export function level1Entry(
  disk: string,
  header: Qcow2Header,
  { index, fields, at }: { readonly index: number; readonly fields: DataView; readonly at: number },
): number {
  const offset = hostOffset(fields.getUint32(at), fields.getUint32(at + 4));
  if (offset % header.clusterBytes !== 0 || offset + header.clusterBytes > header.fileBytes)
    throw new DiskError(
      disk,
      `the image's qcow2 disk is damaged or cut short: its L2 table ${index} at ${offset} is not inside its ${header.fileBytes} bytes; rebuild the image`,
    );
  return offset;
}
