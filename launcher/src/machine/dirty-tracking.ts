import { clearDirtyLog, dirtyLogFor, getDirtyLog } from "../kvm/dirty-log.ts";
import { kvmIoctl } from "../kvm/kvm-ioctl.ts";
import { capabilities, constants, structs } from "../kvm/layouts.ts";
import { setMemorySlot } from "../kvm/memory-slots.ts";
import { newStruct, setU64 } from "../kvm/struct-view.ts";
import { PAGE_SIZE } from "../memory/dirty-bitmap.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { countBits } from "../storage/bits.ts";

/** A slot of guest RAM in pages of the backing; `firstPage` and `pages` are multiples of 64. */
export interface TrackedSlot {
  readonly slot: number;
  readonly firstPage: number;
  readonly pages: number;
}

/** Which pages of guest RAM are written, by vCPUs and by this process, while it is on. */
export class DirtyTracking {
  readonly slots: readonly TrackedSlot[];
  /** Whoever copies a page clears its bit before that; else `collect` has cleared all it gave. */
  readonly isManual: boolean;
  readonly #vmFd: number;
  readonly #memory: GuestMemory;

  constructor(vmFd: number, memory: GuestMemory) {
    this.#vmFd = vmFd;
    this.#memory = memory;
    this.slots = memory.regions.map(({ offsetBytes, sizeBytes }, slot) => {
      return { slot, firstPage: offsetBytes / PAGE_SIZE, pages: sizeBytes / PAGE_SIZE };
    });
    this.isManual = enableManualProtection(vmFd);
  }

  /** From now on every write is noted. */
  start(): void {
    this.#memory.dirty.enable();
    this.#setLogging(true);
  }

  stop(): void {
    this.#setLogging(false);
    this.#memory.dirty.disable();
  }

  /** Adds the pages written since they were last collected (or cleared) to `bitmap`, a bit each; answers how many are in it. */
  collect(bitmap: Uint32Array): number {
    for (const { slot, firstPage, pages } of this.slots) {
      const log = dirtyLogFor(pages);
      getDirtyLog(this.#vmFd, slot, log);
      const at = firstPage / 32;
      for (let i = 0; i < log.length; i++) bitmap[at + i] = (bitmap[at + i] ?? 0) | (log[i] ?? 0);
    }
    const own = this.#memory.dirty.take();
    for (let i = 0; i < own.length; i++) bitmap[i] = (bitmap[i] ?? 0) | (own[i] ?? 0);
    return countBits(bitmap);
  }

  #setLogging(isOn: boolean): void {
    this.#memory.regions.forEach((region, slot) => {
      const hostAddress = this.#memory.hostAddress(region.gpa, region.sizeBytes);
      setMemorySlot(this.#vmFd, { ...region, slot, hostAddress, logDirtyPages: isOn });
    });
  }
}

/** Before pages `[firstPage, firstPage + pages)` of a slot, multiples of 64, are copied: those in `bitmap` are noted anew. */
export function clearTracked(
  vmFd: number,
  slot: TrackedSlot,
  firstPage: number,
  pages: number,
  bitmap: Uint32Array,
): void {
  clearDirtyLog(vmFd, slot.slot, firstPage - slot.firstPage, pages, bitmap);
}

/** Spares the kernel one long walk at the start, and one each time the log is read (since Linux 5.2 and 5.7). */
function enableManualProtection(vmFd: number): boolean {
  const offered = kvmIoctl(vmFd, "KVM_CHECK_EXTENSION", capabilities.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
  const wanted = constants.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | constants.KVM_DIRTY_LOG_INITIALLY_SET;
  const flags = offered & wanted;
  if (flags === 0) return false;
  const argument = newStruct("kvm_enable_cap");
  argument.setUint32(structs.kvm_enable_cap.at.cap, capabilities.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, true);
  setU64(argument, structs.kvm_enable_cap.at.args, flags);
  kvmIoctl(vmFd, "KVM_ENABLE_CAP", argument);
  return true;
}
