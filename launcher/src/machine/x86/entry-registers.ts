import { type EntryState, entrySegments, type SegmentState } from "../../boot/x86/entry.ts";
import { kvmIoctl } from "../../kvm/kvm-ioctl.ts";
import { structs } from "../../kvm/layouts.ts";
import { getU64, newStruct, setU64 } from "../../kvm/struct-view.ts";

// Control register bits, Intel SDM volume 3A, section 2.5.
const CR0_PE = 0x1;
const CR0_ET = 0x10;
const CR0_PG = 0x8000_0000;
const CR4_PAE = 0x20;
const EFER_LME = 0x100;
const EFER_LMA = 0x400;
/** Bit 1 is always set; interrupts are off. */
const RFLAGS = 2;

const regsAt = structs.kvm_regs.at;
const sregsAt = structs.kvm_sregs.at;
const segmentAt = structs.kvm_segment.at;
const tableAt = structs.kvm_dtable.at;

/** Sets a processor's registers as the boot protocol of `entry` asks; those that it does not name keep their reset value. */
export function setEntryRegisters(vcpuFd: number, entry: EntryState): void {
  const sregs = newStruct("kvm_sregs");
  kvmIoctl(vcpuFd, "KVM_GET_SREGS", sregs);
  putSpecialRegisters(sregs, entry);
  kvmIoctl(vcpuFd, "KVM_SET_SREGS", sregs);
  kvmIoctl(vcpuFd, "KVM_SET_REGS", entryRegisters(entry));
}

/** `struct kvm_regs` of an entry. */
export function entryRegisters(entry: EntryState): DataView {
  const regs = newStruct("kvm_regs");
  setU64(regs, regsAt.rip, entry.rip);
  setU64(regs, regsAt.rsp, entry.rsp);
  setU64(regs, regsAt.rbp, entry.rsp);
  setU64(regs, regsAt.rflags, RFLAGS);
  if (entry.protocol === "pvh") setU64(regs, regsAt.rbx, entry.rbx);
  else setU64(regs, regsAt.rsi, entry.rsi);
  return regs;
}

/** Changes `struct kvm_sregs` of a processor that was reset to that of an entry. */
export function putSpecialRegisters(sregs: DataView, entry: EntryState): void {
  const { code, data, task } = entrySegments(entry.protocol);
  putSegment(sregs, sregsAt.cs, code);
  for (const offset of [sregsAt.ds, sregsAt.es, sregsAt.fs, sregsAt.gs, sregsAt.ss]) putSegment(sregs, offset, data);
  putSegment(sregs, sregsAt.tr, task);
  putTable(sregs, sregsAt.gdt, entry.gdt);
  putTable(sregs, sregsAt.idt, entry.idt);
  const long = entry.protocol === "linux64";
  setU64(sregs, sregsAt.cr0, CR0_PE + CR0_ET + (long ? CR0_PG : 0));
  setU64(sregs, sregsAt.cr3, entry.protocol === "linux64" ? entry.cr3 : 0);
  setU64(sregs, sregsAt.cr4, long ? CR4_PAE : 0);
  const others = getU64(sregs, sregsAt.efer) & ~(EFER_LME | EFER_LMA);
  setU64(sregs, sregsAt.efer, long ? others | EFER_LME | EFER_LMA : others);
}

function putSegment(view: DataView, offset: number, segment: SegmentState): void {
  setU64(view, offset + segmentAt.base, 0);
  view.setUint32(offset + segmentAt.limit, segment.limit, true);
  view.setUint16(offset + segmentAt.selector, segment.selector, true);
  const { type, db, s, l, g } = segment;
  const bytes = { type, present: 1, dpl: 0, db, s, l, g, unusable: 0 };
  for (const [name, value] of Object.entries(bytes))
    view.setUint8(offset + segmentAt[name as keyof typeof bytes], value);
}

function putTable(view: DataView, offset: number, table: { readonly base: number; readonly limit: number }): void {
  setU64(view, offset + tableAt.base, table.base);
  view.setUint16(offset + tableAt.limit, table.limit, true);
}
