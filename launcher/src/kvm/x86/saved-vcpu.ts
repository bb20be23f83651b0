import { bytes, type Codec, list, record, u32, u64, type ValueOf } from "../../codec/codec.ts";
import { StateRefused } from "../../codec/state-refused.ts";
import { SysError } from "../../sys/errors.ts";
import { kvmIoctl } from "../kvm-ioctl.ts";
import { structs } from "../layouts.ts";
import { bytesOf, kvmStruct, viewOf } from "../struct-codec.ts";
import { CPUID_ENTRIES_LIMIT, getCpuid, setCpuid } from "./cpuid.ts";
import { getMsrs, type Msr, msrIndexes } from "./msrs.ts";
import { restoreVcpuState, saveVcpuState, type VcpuStateLayout } from "./vcpu-state.ts";

/** More than any processor has (AMX included): 2.7 KiB without AVX-512, some 11 KiB with all there is. */
const XSAVE_LIMIT_BYTES = 256 * 1024;
const MSR_LIMIT = 4096;
/** What NTP corrects: within it two time stamp counters count as the same. */
const TSC_TOLERANCE = 250e-6;

const cpuidEntry = record({ leaf: u32, subleaf: u32, flags: u32, eax: u32, ebx: u32, ecx: u32, edx: u32 });

const xsave: Codec<DataView> = {
  write: (writer, view) => bytes(XSAVE_LIMIT_BYTES).write(writer, bytesOf(view)),
  read: (reader) => viewOf(bytes(XSAVE_LIMIT_BYTES).read(reader)),
};

/** All of a vCPU, so that it goes on elsewhere. */
export const savedVcpuCodec = record({
  cpuid: list(cpuidEntry, CPUID_ENTRIES_LIMIT),
  tscKhz: u32,
  state: record({
    mpState: kvmStruct("kvm_mp_state"),
    regs: kvmStruct("kvm_regs"),
    sregs: kvmStruct("kvm_sregs"),
    xsave,
    xcrs: kvmStruct("kvm_xcrs"),
    debugregs: kvmStruct("kvm_debugregs"),
    lapic: kvmStruct("kvm_lapic_state"),
    events: kvmStruct("kvm_vcpu_events"),
    msrs: list(record({ index: u32, value: u64 }), MSR_LIMIT),
  }),
});

export type SavedVcpu = ValueOf<typeof savedVcpuCodec>;

/** The vCPU is out of the guest and has nothing left undone. Throws SysError. */
export function saveVcpu(vcpuFd: number, layout: VcpuStateLayout): SavedVcpu {
  const state = saveVcpuState(vcpuFd, layout);
  return {
    cpuid: getCpuid(vcpuFd),
    tscKhz: kvmIoctl(vcpuFd, "KVM_GET_TSC_KHZ"),
    state: { ...state, msrs: withDeadline(state.msrs) },
  };
}

/**
 * A deadline that is zero may be one that has passed, with an interrupt that KVM had not delivered: now it passes again.
 * A guest that has no timer set takes one interrupt too many, as it may on hardware.
 */
function withDeadline(msrs: readonly Msr[]): Msr[] {
  const now = msrs.find(({ index }) => index === msrIndexes.IA32_TSC)?.value ?? 0n;
  return msrs.map((msr) =>
    msr.index === msrIndexes.IA32_TSC_DEADLINE && msr.value === 0n ? { ...msr, value: now } : msr,
  );
}

export interface VcpuRestore {
  /** For the message, such as "processor 0". */
  readonly part: string;
  /** KVM_CAP_XSAVE2 of this host. */
  readonly xsaveBytes: number;
  /** Since it was saved; its time stamp counter goes on by that. */
  readonly elapsedNs: bigint;
}

/** Makes a vCPU that has not run yet the saved one. Throws StateRefused and SysError. */
export function restoreVcpu(vcpuFd: number, saved: SavedVcpu, { part, xsaveBytes, elapsedNs }: VcpuRestore): void {
  setCpuid(vcpuFd, saved.cpuid);
  setTscFrequency(vcpuFd, saved.tscKhz, part);
  const elapsedTicks = (elapsedNs * BigInt(saved.tscKhz)) / 1_000_000n;
  const msrs = saved.state.msrs.map((msr) =>
    msr.index === msrIndexes.IA32_TSC ? { ...msr, value: BigInt.asUintN(64, msr.value + elapsedTicks) } : msr,
  );
  const fitting = fitXsave(saved.state.xsave, xsaveBytes, part);
  const refused = restoreVcpuState(vcpuFd, { ...saved.state, xsave: fitting, msrs });
  checkRefused(vcpuFd, msrs, refused, part);
}

/** KVM reads as much as this host's processor has, however much there is. */
function fitXsave(saved: DataView, hostBytes: number, part: string): DataView {
  const sizeBytes = Math.max(hostBytes, structs.kvm_xsave.sizeBytes);
  const source = bytesOf(saved);
  if (source.subarray(sizeBytes).some((byte) => byte !== 0))
    throw new StateRefused(part, "uses vector registers that this host's processor does not have");
  const fitted = new Uint8Array(sizeBytes);
  fitted.set(source.subarray(0, sizeBytes));
  return viewOf(fitted);
}

function setTscFrequency(vcpuFd: number, wantedKhz: number, part: string): void {
  const hereKhz = kvmIoctl(vcpuFd, "KVM_GET_TSC_KHZ");
  if (Math.abs(wantedKhz - hereKhz) <= hereKhz * TSC_TOLERANCE) return;
  try {
    kvmIoctl(vcpuFd, "KVM_SET_TSC_KHZ", wantedKhz);
  } catch (cause) {
    if (!(cause instanceof SysError)) throw cause;
    const problem = `its clock runs at ${wantedKhz} kHz, and this host's processor only offers ${hereKhz} kHz`;
    throw new StateRefused(part, problem, { cause });
  }
}

/** Some registers cannot be written, which is well as long as they hold what they should. */
function checkRefused(vcpuFd: number, msrs: readonly Msr[], refused: readonly number[], part: string): void {
  const here = new Map(getMsrs(vcpuFd, refused).map(({ index, value }) => [index, value]));
  const wrong = msrs.find(({ index, value }) => refused.includes(index) && here.get(index) !== value);
  if (wrong) {
    const number = `0x${wrong.index.toString(16)}`;
    throw new StateRefused(part, `this host refuses to set its register ${number} to 0x${wrong.value.toString(16)}`);
  }
}
