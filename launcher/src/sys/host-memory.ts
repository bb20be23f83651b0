import { addressOf } from "./koffi.ts";
import { libc } from "./libc.ts";

/**
 * Copies `source` to memory of this process at `hostAddress`. The caller answers for the address: what is not mapped
 * there ends the process.
 */
export function copyToHost(hostAddress: number, source: Uint8Array): void {
  libc().memcpy(hostAddress, source, source.length);
}

/** Copies memory of this process at `hostAddress` to `target`; see copyToHost. */
export function copyFromHost(target: Uint8Array, hostAddress: number): void {
  libc().memcpy(addressOf(target), hostAddress, target.length);
}

/** Zeroes memory of this process; see copyToHost. */
export function zeroHost(hostAddress: number, lengthBytes: number): void {
  libc().memset(hostAddress, 0, lengthBytes);
}

const PAGE_BYTES = 4096;

/** Memory that starts at a page, as direct I/O wants it, and goes when nobody has it any more. */
export function pageAlignedBuffer(sizeBytes: number): Buffer {
  const memory = new Uint8Array(sizeBytes + PAGE_BYTES);
  const skipBytes = PAGE_BYTES - (addressOf(memory) % PAGE_BYTES);
  return Buffer.from(memory.buffer, skipBytes, sizeBytes);
}
