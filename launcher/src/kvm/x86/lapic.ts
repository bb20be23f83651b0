import { kvmIoctl } from "../kvm-ioctl.ts";
import { newStruct } from "../struct-view.ts";

/** Registers of the local vector table (Intel SDM volume 3A, section 11.5.1). */
const LVT_LINT0 = 0x350;
const LVT_LINT1 = 0x360;
const DELIVERY_MODE_SHIFT = 8;
const DELIVERY_MODE_MASK = 7 << DELIVERY_MODE_SHIFT;
const DELIVERY_EXTINT = 7;
const DELIVERY_NMI = 4;

/** The local APIC's pins as firmware leaves them: interrupts of the PIC at LINT0, NMI at LINT1. */
export function connectLocalPins(vcpuFd: number): void {
  const state = newStruct("kvm_lapic_state");
  kvmIoctl(vcpuFd, "KVM_GET_LAPIC", state);
  setDeliveryMode(state, LVT_LINT0, DELIVERY_EXTINT);
  setDeliveryMode(state, LVT_LINT1, DELIVERY_NMI);
  kvmIoctl(vcpuFd, "KVM_SET_LAPIC", state);
}

function setDeliveryMode(state: DataView, register: number, mode: number): void {
  const value = state.getUint32(register, true);
  state.setUint32(register, (value & ~DELIVERY_MODE_MASK) | (mode << DELIVERY_MODE_SHIFT), true);
}
