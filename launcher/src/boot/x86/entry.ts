import type { Gpa } from "../../memory/gpa.ts";

/**
 * Where and how the boot processor starts. What the registers point at (GDT, page tables, boot parameters) has been
 * written to guest memory by the loader; the vCPU code turns this into KVM_SET_SREGS and KVM_SET_REGS.
 */
export type EntryState = Linux64Entry | PvhEntry;

interface CommonEntry {
  readonly rip: Gpa;
  /** rsp and rbp: 16-byte aligned, below it free RAM. */
  readonly rsp: Gpa;
  /** Written by the loader, see encodeGdt; `limit` as GDTR has it (bytes - 1). */
  readonly gdt: { readonly base: Gpa; readonly limit: number };
  /** Limit 0: exceptions before the kernel's own IDT are a triple fault. */
  readonly idt: { readonly base: Gpa; readonly limit: number };
}

/**
 * Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"): long mode, interrupts off.
 * cr0 = PE | ET | PG; cr4 = PAE; efer = LME | LMA; cr3 = `cr3`; cs, ds, es, fs, gs, ss, tr from the GDT; rflags = 2.
 */
export interface Linux64Entry extends CommonEntry {
  readonly protocol: "linux64";
  /** PML4 of an identity map of the first 4 GiB. */
  readonly cr3: Gpa;
  /** The zero page (`struct boot_params`). */
  readonly rsi: Gpa;
}

/**
 * PVH (xen/include/public/arch-x86/hvm/start_info.h and docs/misc/pvh.pandoc): 32-bit protected mode, paging off.
 * cr0 = PE | ET; cr4 = 0; efer = 0; flat cs, ds, es, ss and a 32-bit TSS from the GDT; rflags = 2.
 */
export interface PvhEntry extends CommonEntry {
  readonly protocol: "pvh";
  /** `hvm_start_info`. */
  readonly rbx: Gpa;
}

/** Selectors in the GDT of an entry state. Linux asks for __BOOT_CS and __BOOT_DS to be these. */
export const SELECTORS = { code: 0x10, data: 0x18, task: 0x20 } as const;

/**
 * What the segment registers hold at entry, in the terms of `struct kvm_segment`: `limit` in bytes (already scaled by
 * the granularity), `type` as in the descriptor. Bases are 0.
 */
export interface SegmentState {
  readonly selector: number;
  readonly limit: number;
  readonly type: number;
  /** Code or data (1) or system (0). */
  readonly s: 0 | 1;
  /** 32-bit segment. */
  readonly db: 0 | 1;
  /** 64-bit code. */
  readonly l: 0 | 1;
  /** Limit counts 4 KiB units. */
  readonly g: 0 | 1;
}

const FLAT = { limit: 0xffff_ffff, s: 1, g: 1 } as const;
/** Execute, read, accessed. */
const CODE_TYPE = 11;
/** Read, write, accessed. */
const DATA_TYPE = 3;
/** Busy TSS: 64-bit in long mode, 32-bit in protected mode. */
const TSS_TYPE = 11;

/** The segments of each protocol; `data` serves ds, es, fs, gs and ss. All are present, of privilege level 0. */
export function entrySegments(protocol: EntryState["protocol"]): {
  readonly code: SegmentState;
  readonly data: SegmentState;
  readonly task: SegmentState;
} {
  const long = protocol === "linux64";
  return {
    code: { ...FLAT, selector: SELECTORS.code, type: CODE_TYPE, db: long ? 0 : 1, l: long ? 1 : 0 },
    data: { ...FLAT, selector: SELECTORS.data, type: DATA_TYPE, db: 1, l: 0 },
    task: { selector: SELECTORS.task, limit: 0x67, type: TSS_TYPE, s: 0, db: 0, l: 0, g: 0 },
  };
}

/** The GDT's bytes for the same segments (SDM volume 3, 3.4.5); selectors 0 and 8 are null. */
export function encodeGdt(protocol: EntryState["protocol"]): Uint8Array {
  const { code, data, task } = entrySegments(protocol);
  const gdt = new Uint8Array(SELECTORS.task + 8);
  const view = new DataView(gdt.buffer);
  for (const segment of [code, data, task]) {
    const limit = segment.g ? Math.floor(segment.limit / 4096) : segment.limit;
    const access = 0x80 | (segment.s << 4) | segment.type;
    const flags = (segment.g << 3) | (segment.db << 2) | (segment.l << 1);
    view.setUint16(segment.selector, limit & 0xffff, true);
    view.setUint8(segment.selector + 5, access);
    view.setUint8(segment.selector + 6, (flags << 4) | (limit >>> 16));
  }
  return gdt;
}
