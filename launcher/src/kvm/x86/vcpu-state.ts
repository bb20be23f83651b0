import { kvmIoctl } from "../kvm-ioctl.ts";
import { type RequestName, type StructName, structs } from "../layouts.ts";
import { newStruct } from "../struct-view.ts";
import { getMsrs, type Msr, msrIndexes, setMsrs } from "./msrs.ts";

/** Everything that one vCPU holds besides its CPUID, as KVM's structs. */
export interface VcpuState {
  readonly mpState: DataView;
  readonly regs: DataView;
  readonly sregs: DataView;
  readonly xsave: DataView;
  readonly xcrs: DataView;
  readonly debugregs: DataView;
  readonly lapic: DataView;
  readonly events: DataView;
  readonly msrs: readonly Msr[];
}

/** How this host saves vCPUs. */
export interface VcpuStateLayout {
  /** KVM_CAP_XSAVE2: bytes of the extended state; 4096 or less means plain KVM_GET_XSAVE. */
  readonly xsaveBytes: number;
  /** See savedMsrs. */
  readonly msrIndexes: readonly number[];
}

function get(vcpuFd: number, request: RequestName, struct: StructName): DataView {
  const view = newStruct(struct);
  kvmIoctl(vcpuFd, request, view);
  return view;
}

/**
 * Saves a vCPU that is out of the guest and has nothing left undone. The order is KVM's: reading the MP state may
 * change the rest, and events are changed by reading the rest.
 */
export function saveVcpuState(vcpuFd: number, layout: VcpuStateLayout): VcpuState {
  const mpState = get(vcpuFd, "KVM_GET_MP_STATE", "kvm_mp_state");
  const regs = get(vcpuFd, "KVM_GET_REGS", "kvm_regs");
  const sregs = get(vcpuFd, "KVM_GET_SREGS", "kvm_sregs");
  const extraBytes = Math.max(0, layout.xsaveBytes - structs.kvm_xsave.sizeBytes);
  const xsave = newStruct("kvm_xsave", extraBytes);
  kvmIoctl(vcpuFd, extraBytes > 0 ? "KVM_GET_XSAVE2" : "KVM_GET_XSAVE", xsave);
  const xcrs = get(vcpuFd, "KVM_GET_XCRS", "kvm_xcrs");
  const debugregs = get(vcpuFd, "KVM_GET_DEBUGREGS", "kvm_debugregs");
  const lapic = get(vcpuFd, "KVM_GET_LAPIC", "kvm_lapic_state");
  const msrs = getMsrs(vcpuFd, layout.msrIndexes);
  const events = get(vcpuFd, "KVM_GET_VCPU_EVENTS", "kvm_vcpu_events");
  return { mpState, regs, sregs, xsave, xcrs, debugregs, lapic, events, msrs };
}

/**
 * Gives a vCPU its saved state back; its CPUID is set by then. The order is KVM's: SET_REGS clears pending exceptions,
 * SET_SREGS sets where the local APIC is, and the deadline timer needs the APIC and the time stamp counter.
 * Answers the registers (MSRs) that the vCPU refused: those that are read-only.
 */
export function restoreVcpuState(vcpuFd: number, state: VcpuState): number[] {
  kvmIoctl(vcpuFd, "KVM_SET_MP_STATE", state.mpState);
  kvmIoctl(vcpuFd, "KVM_SET_REGS", state.regs);
  kvmIoctl(vcpuFd, "KVM_SET_SREGS", state.sregs);
  kvmIoctl(vcpuFd, "KVM_SET_XSAVE", state.xsave);
  // A processor without XSAVE has none to set, and KVM refuses to.
  if (state.xcrs.getUint32(structs.kvm_xcrs.at.nr_xcrs, true) > 0) kvmIoctl(vcpuFd, "KVM_SET_XCRS", state.xcrs);
  kvmIoctl(vcpuFd, "KVM_SET_DEBUGREGS", state.debugregs);
  kvmIoctl(vcpuFd, "KVM_SET_LAPIC", state.lapic);
  const isDeadline = ({ index }: Msr) => index === msrIndexes.IA32_TSC_DEADLINE;
  const refused = setMsrs(
    vcpuFd,
    state.msrs.filter((msr) => !isDeadline(msr)),
  );
  refused.push(...setMsrs(vcpuFd, state.msrs.filter(isDeadline)));
  kvmIoctl(vcpuFd, "KVM_SET_VCPU_EVENTS", state.events);
  return refused;
}

/**
 * The same state without the time: a vCPU that is reset keeps its time stamp counter, as the others do, so that they
 * stay in step.
 */
export function withoutTime(state: VcpuState): VcpuState {
  const time: readonly number[] = [msrIndexes.IA32_TSC, msrIndexes.IA32_TSC_ADJUST];
  return { ...state, msrs: state.msrs.filter(({ index }) => !time.includes(index)) };
}
