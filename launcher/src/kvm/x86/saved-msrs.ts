import { getCpuid } from "./cpuid.ts";
import { getMsrs, msrIndexes, msrIndexList } from "./msrs.ts";

// Intel SDM volume 2A, CPUID leaf 1, EDX.
const CPUID_MCE = 1 << 7;
const CPUID_MTRR = 1 << 12;
const CPUID_MCA = 1 << 14;

// Intel SDM volume 3A, 13.11: memory type range registers. The ranges come in pairs of base and mask.
const MTRR_PHYSBASE0 = 0x200;
const MTRR_FIXED = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
const MTRRCAP_VCNT = 0xff;
const MTRRCAP_FIX = 1 << 8;

// Intel SDM volume 3B, 17.3: machine-check banks of four registers (control, status, address, miscellaneous).
const MC0_CTL = 0x400;
const BANK_REGISTERS = 4;
const MC0_CTL2 = 0x280;
const MCG_CAP_COUNT = 0xff;
const MCG_CAP_CMCI = 1 << 10;

/**
 * The registers that make up a vCPU of this host, in the order that they are restored in: those that KVM lists, and the two
 * kinds that a guest writes and KVM does not list. `vcpuFd` is any of the machine's, with its CPUID set.
 */
export function savedMsrs(kvmFd: number, vcpuFd: number): number[] {
  const features = getCpuid(vcpuFd).find(({ leaf }) => leaf === 1)?.edx ?? 0;
  const unlisted: number[] = [];
  if ((features & CPUID_MCE) !== 0 && (features & CPUID_MCA) !== 0) unlisted.push(...machineCheckBanks(vcpuFd));
  if ((features & CPUID_MTRR) !== 0) unlisted.push(...memoryTypeRanges(vcpuFd));
  const listed = msrIndexList(kvmFd);
  // Not every KVM has all that its processor tells of.
  const held = getMsrs(vcpuFd, unlisted).map(({ index }) => index);
  return [...listed, ...held.filter((index) => !listed.includes(index))];
}

function machineCheckBanks(vcpuFd: number): number[] {
  const capabilities = read(vcpuFd, msrIndexes.IA32_MCG_CAP);
  const banks = range(capabilities & MCG_CAP_COUNT);
  const hasThresholds = (capabilities & MCG_CAP_CMCI) !== 0;
  return [
    ...banks.flatMap((bank) => range(BANK_REGISTERS).map((i) => MC0_CTL + bank * BANK_REGISTERS + i)),
    ...(hasThresholds ? banks.map((bank) => MC0_CTL2 + bank) : []),
  ];
}

/** IA32_MTRR_DEF_TYPE is what makes the ranges count: it comes when they are whole. */
function memoryTypeRanges(vcpuFd: number): number[] {
  const capabilities = read(vcpuFd, msrIndexes.IA32_MTRRCAP);
  const variable = range(2 * (capabilities & MTRRCAP_VCNT)).map((i) => MTRR_PHYSBASE0 + i);
  const fixed = (capabilities & MTRRCAP_FIX) !== 0 ? MTRR_FIXED : [];
  return [...variable, ...fixed, msrIndexes.IA32_MTRR_DEF_TYPE];
}

/** 0 where KVM does not have it; both that are asked for have their flags in the lower half. */
function read(vcpuFd: number, index: number): number {
  const [found] = getMsrs(vcpuFd, [index]);
  return Number(BigInt.asUintN(32, found?.value ?? 0n));
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}
