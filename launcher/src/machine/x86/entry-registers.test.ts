import { describe, expect, it } from "@jest/globals";
import type { EntryState } from "../../boot/x86/entry.ts";
import { structs } from "../../kvm/layouts.ts";
import { getU64, newStruct, setU64 } from "../../kvm/struct-view.ts";
import { gpa } from "../../memory/gpa.ts";
import { entryRegisters, putSpecialRegisters } from "./entry-registers.ts";

const common = {
  rip: gpa(0x100_0200),
  rsp: gpa(0x8ff0),
  gdt: { base: gpa(0x500), limit: 39 },
  idt: { base: gpa(0x540), limit: 0 },
};
const linux: EntryState = { ...common, protocol: "linux64", cr3: gpa(0x9000), rsi: gpa(0x7000) };
const pvh: EntryState = { ...common, protocol: "pvh", rbx: gpa(0x6000) };

const regs = structs.kvm_regs.at;
const sregs = structs.kvm_sregs.at;
const segment = structs.kvm_segment.at;

function specialRegisters(entry: EntryState): DataView {
  const view = newStruct("kvm_sregs");
  setU64(view, sregs.apic_base, 0xfee0_0900);
  setU64(view, sregs.efer, 0x1);
  setU64(view, sregs.cr0, 0x6000_0010);
  putSpecialRegisters(view, entry);
  return view;
}

describe("the registers at entry", () => {
  it("point a Linux kernel at the zero page, and a PVH kernel at its start info", () => {
    const ofLinux = entryRegisters(linux);
    expect([regs.rip, regs.rsp, regs.rbp, regs.rsi, regs.rbx].map((at) => getU64(ofLinux, at))).toEqual([
      0x100_0200, 0x8ff0, 0x8ff0, 0x7000, 0,
    ]);
    const ofPvh = entryRegisters(pvh);
    expect([getU64(ofPvh, regs.rbx), getU64(ofPvh, regs.rsi), getU64(ofPvh, regs.rflags)]).toEqual([0x6000, 0, 2]);
  });

  it("put Linux into long mode with paging", () => {
    const view = specialRegisters(linux);
    expect(getU64(view, sregs.cr0)).toBe(0x8000_0011);
    expect(getU64(view, sregs.cr4)).toBe(0x20);
    expect(getU64(view, sregs.cr3)).toBe(0x9000);
    expect(getU64(view, sregs.efer)).toBe(0x501);
    expect([view.getUint8(sregs.cs + segment.l), view.getUint8(sregs.cs + segment.db)]).toEqual([1, 0]);
  });

  it("put PVH into protected mode without paging", () => {
    const view = specialRegisters(pvh);
    expect(getU64(view, sregs.cr0)).toBe(0x11);
    expect([sregs.cr3, sregs.cr4].map((at) => getU64(view, at))).toEqual([0, 0]);
    expect(getU64(view, sregs.efer)).toBe(1);
    expect([view.getUint8(sregs.cs + segment.l), view.getUint8(sregs.cs + segment.db)]).toEqual([0, 1]);
  });

  it("keep where the local APIC is", () => {
    expect(getU64(specialRegisters(linux), sregs.apic_base)).toBe(0xfee0_0900);
  });

  it("have flat segments and the tables of the entry", () => {
    const view = specialRegisters(linux);
    for (const at of [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss]) {
      expect(view.getUint16(at + segment.selector, true)).toBe(0x18);
      expect(view.getUint32(at + segment.limit, true)).toBe(0xffff_ffff);
      expect(view.getUint8(at + segment.present)).toBe(1);
    }
    expect(view.getUint16(sregs.tr + segment.selector, true)).toBe(0x20);
    expect([getU64(view, sregs.gdt), view.getUint16(sregs.gdt + 8, true)]).toEqual([0x500, 39]);
    expect([getU64(view, sregs.idt), view.getUint16(sregs.idt + 8, true)]).toEqual([0x540, 0]);
  });
});
