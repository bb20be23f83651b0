import { describe, expect, it } from "@jest/globals";
import { kvmIoctl } from "../../kvm/kvm-ioctl.ts";
import { structs } from "../../kvm/layouts.ts";
import { newStruct, setU64 } from "../../kvm/struct-view.ts";
import { TestBoard } from "../../machine/testing/test-board.ts";

const sregsAt = structs.kvm_sregs.at;
const segmentAt = structs.kvm_segment.at;
const RESET_PORT = 0x600;
const CR0_ET = 0x10;

/** Real mode at F000:FFF0, as Linux leaves it when it reboots "by the BIOS". */
function enterFirmware(vcpuFd: number): void {
  const sregs = newStruct("kvm_sregs");
  kvmIoctl(vcpuFd, "KVM_GET_SREGS", sregs);
  for (const segment of [sregsAt.cs, sregsAt.ds, sregsAt.es, sregsAt.fs, sregsAt.gs, sregsAt.ss]) {
    const selector = segment === sregsAt.cs ? 0xf000 : 0;
    setU64(sregs, segment + segmentAt.base, selector * 16);
    sregs.setUint32(segment + segmentAt.limit, 0xffff, true);
    sregs.setUint16(segment + segmentAt.selector, selector, true);
    for (const field of ["db", "l", "g"] as const) sregs.setUint8(segment + segmentAt[field], 0);
  }
  setU64(sregs, sregsAt.cr0, CR0_ET);
  setU64(sregs, sregsAt.cr4, 0);
  setU64(sregs, sregsAt.efer, 0);
  kvmIoctl(vcpuFd, "KVM_SET_SREGS", sregs);
  const regs = newStruct("kvm_regs");
  setU64(regs, structs.kvm_regs.at.rip, 0xfff0);
  setU64(regs, structs.kvm_regs.at.rflags, 2);
  kvmIoctl(vcpuFd, "KVM_SET_REGS", regs);
}

describe("the firmware entry point", () => {
  it("resets the machine when a processor starts there in real mode", async () => {
    using machine = await TestBoard.make();
    const { promise, resolve } = Promise.withResolvers<number[]>();
    machine.ports.add(RESET_PORT, 4, {
      read: (_, data) => data.fill(0xff),
      write: (offset, data) => resolve([offset, ...data]),
    });
    const [vcpu] = machine.board.vcpus;
    if (!vcpu) throw new Error("a board without a processor");
    enterFirmware(vcpu.fd);
    machine.runner.run();
    expect(await promise).toEqual([0, 0x06]);
  });
});
