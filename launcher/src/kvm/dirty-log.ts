import { addressOf } from "../sys/koffi.ts";
import { kvmIoctl } from "./kvm-ioctl.ts";
import { structs } from "./layouts.ts";
import { newStruct, setU64 } from "./struct-view.ts";

const BITS_PER_WORD = 64;

/** A bitmap for a slot of `pages`, with the padding that KVM writes too. */
export function dirtyLogFor(pages: number): Uint32Array {
  return new Uint32Array(new ArrayBuffer(Math.ceil(pages / BITS_PER_WORD) * (BITS_PER_WORD / 8)));
}

/**
 * Which pages of a logged slot vCPUs wrote: bit n%32 of word n/32 for page n. They are cleared by this, unless the
 * machine clears by hand (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2).
 */
export function getDirtyLog(vmFd: number, slot: number, bitmap: Uint32Array): void {
  const argument = newStruct("kvm_dirty_log");
  argument.setUint32(structs.kvm_dirty_log.at.slot, slot, true);
  setU64(argument, structs.kvm_dirty_log.at.dirty_bitmap, addressOf(bitmap));
  kvmIoctl(vmFd, "KVM_GET_DIRTY_LOG", argument);
}

/**
 * Clears and write-protects pages whose bit is set in `bitmap`, bit 0 for `firstPage` (a multiple of 64).
 * `pages` is a multiple of 64 too, or reaches the end of the slot.
 */
export function clearDirtyLog(vmFd: number, slot: number, firstPage: number, pages: number, bitmap: Uint32Array): void {
  const { at } = structs.kvm_clear_dirty_log;
  const argument = newStruct("kvm_clear_dirty_log");
  argument.setUint32(at.slot, slot, true);
  argument.setUint32(at.num_pages, pages, true);
  setU64(argument, at.first_page, firstPage);
  setU64(argument, at.dirty_bitmap, addressOf(bitmap));
  kvmIoctl(vmFd, "KVM_CLEAR_DIRTY_LOG", argument);
}
