import { closeSync, openSync } from "node:fs";
import koffi from "koffi";

/** Guest instructions of the loop: decrement and jump. */
const loops = 100_000;

// linux/kvm.h; x86-64 layouts.
const KVM_CREATE_VM = 0xae01;
const KVM_GET_VCPU_MMAP_SIZE = 0xae04;
const KVM_CREATE_VCPU = 0xae41;
const KVM_SET_USER_MEMORY_REGION = 0x4020ae46;
const KVM_RUN = 0xae80;
const KVM_SET_REGS = 0x4090ae82;
const KVM_GET_SREGS = 0x8138ae83;
const KVM_SET_SREGS = 0x4138ae84;
const KVM_SET_TSS_ADDR = 0xae47;
const KVM_EXIT_HLT = 5;
const exitReasonOffset = 8;
const sregsBytes = 312;
/** Segments in struct kvm_sregs: cs, ds, es, fs, gs, ss, 24 bytes each; control registers after 8 segments and 2 tables. */
const segmentBytes = 24;
const cr0Offset = 8 * segmentBytes + 2 * 16;
const pageBytes = 4096;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE_ANONYMOUS = 0x22;

/** mov ecx, loops; again: dec ecx; jnz again; hlt - in 32-bit protected mode. */
function countingLoop(): Uint8Array {
  const code = Buffer.from([0xb9, 0, 0, 0, 0, 0x49, 0x75, 0xfd, 0xf4]);
  code.writeUInt32LE(loops, 1);
  return code;
}

/**
 * Runs a counting loop in the kernel mode (CPL 0) of a tiny guest.
 * @returns million instructions a second
 */
export function measureKvm(device = "/dev/kvm"): number {
  const libc = koffi.load("libc.so.6");
  const ioctlNumber = libc.func("int ioctl(int fd, unsigned long request, long argument)");
  const ioctlPointer = libc.func("int ioctl(int fd, unsigned long request, void *argument)");
  const mmap = libc.func(
    "void *mmap(uintptr_t address, size_t length, int protection, int flags, int fd, long offset)",
  );
  const check = (result: number, what: string): number => {
    if (result < 0) throw new Error(`${what} failed with errno ${koffi.errno()}`);
    return result;
  };
  const map = (bytes: number, flags: number, fd: number) => {
    const address: bigint = mmap(0, bytes, PROT_READ_WRITE, flags, fd, 0);
    if (address === 0xffff_ffff_ffff_ffffn) throw new Error(`mmap failed with errno ${koffi.errno()}`);
    return { address, bytes: new Uint8Array(koffi.view(address, bytes)) };
  };
  const kvm = openSync(device, "r+");
  try {
    const vm = check(ioctlNumber(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    // Intel wants it before the first run of protected mode without paging.
    check(ioctlNumber(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
    const memory = map(pageBytes, MAP_PRIVATE_ANONYMOUS, -1);
    memory.bytes.set(countingLoop());
    check(ioctlPointer(vm, KVM_SET_USER_MEMORY_REGION, memoryRegion(memory.address)), "KVM_SET_USER_MEMORY_REGION");
    const vcpu = check(ioctlNumber(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    const run = map(check(ioctlNumber(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"), MAP_SHARED, vcpu);
    const sregs = Buffer.alloc(sregsBytes);
    check(ioctlPointer(vcpu, KVM_GET_SREGS, sregs), "KVM_GET_SREGS");
    setFlatProtectedMode(sregs);
    check(ioctlPointer(vcpu, KVM_SET_SREGS, sregs), "KVM_SET_SREGS");
    check(ioctlPointer(vcpu, KVM_SET_REGS, initialRegisters()), "KVM_SET_REGS");

    const startedMs = performance.now();
    check(ioctlNumber(vcpu, KVM_RUN, 0), "KVM_RUN");
    const elapsedMs = performance.now() - startedMs;
    const reason = Buffer.from(run.bytes.buffer).readUInt32LE(exitReasonOffset);
    if (reason !== KVM_EXIT_HLT) throw new Error(`the guest ended with exit ${reason} instead of a halt`);
    closeSync(vcpu);
    closeSync(vm);
    return (2 * loops) / elapsedMs / 1000;
  } finally {
    closeSync(kvm);
  }
}

/** struct kvm_userspace_memory_region: one page at 0. */
function memoryRegion(address: bigint): Buffer {
  const region = Buffer.alloc(32);
  region.writeBigUInt64LE(BigInt(pageBytes), 16);
  region.writeBigUInt64LE(address, 24);
  return region;
}

/** struct kvm_regs: all zero but rflags, whose bit 1 is always set. */
function initialRegisters(): Buffer {
  const regs = Buffer.alloc(144);
  regs.writeBigUInt64LE(2n, 17 * 8);
  return regs;
}

/** struct kvm_segment: base u64, limit u32, selector u16, type, present, dpl, db, s, l, g, avl, unusable, padding. */
function setFlatProtectedMode(sregs: Buffer): void {
  for (let segment = 0; segment < 6; segment++) {
    const at = segment * segmentBytes;
    const code = segment === 0;
    sregs.writeBigUInt64LE(0n, at);
    sregs.writeUInt32LE(0xffff_ffff, at + 8);
    sregs.writeUInt16LE(code ? 8 : 16, at + 12);
    sregs.set([code ? 0xb : 0x3, 1, 0, 1, 1, 0, 1, 0, 0, 0], at + 14);
  }
  sregs.writeBigUInt64LE(sregs.readBigUInt64LE(cr0Offset) | 1n, cr0Offset);
}
