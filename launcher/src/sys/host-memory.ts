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
