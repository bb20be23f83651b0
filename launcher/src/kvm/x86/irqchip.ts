import { list, record } from "../../codec/codec.ts";
import { CodecError } from "../../codec/codec-error.ts";
import { kvmIoctl } from "../kvm-ioctl.ts";
import { constants, structs } from "../layouts.ts";
import { kvmStruct } from "../struct-codec.ts";
import { newStruct } from "../struct-view.ts";

const CHIPS = [
  constants.KVM_IRQCHIP_PIC_MASTER,
  constants.KVM_IRQCHIP_PIC_SLAVE,
  constants.KVM_IRQCHIP_IOAPIC,
] as const;

/** Interrupt controllers and timer of the machine, as KVM holds them. */
export interface InterruptControllerState {
  /** `struct kvm_irqchip` of both PICs and the IOAPIC. */
  readonly chips: readonly DataView[];
  readonly pit: DataView;
}

export const interruptControllerCodec = record({
  chips: list(kvmStruct("kvm_irqchip"), CHIPS.length),
  pit: kvmStruct("kvm_pit_state2"),
});

/** PICs, IOAPIC and local APICs in the kernel, and the PIT with port 0x61. After the memory slots, before the vCPUs. */
export function createInterruptControllers(vmFd: number): void {
  kvmIoctl(vmFd, "KVM_CREATE_IRQCHIP");
  const pit = newStruct("kvm_pit_config");
  pit.setUint32(structs.kvm_pit_config.at.flags, constants.KVM_PIT_SPEAKER_DUMMY, true);
  kvmIoctl(vmFd, "KVM_CREATE_PIT2", pit);
}

export function saveInterruptControllers(vmFd: number): InterruptControllerState {
  const chips = CHIPS.map((id) => {
    const chip = newStruct("kvm_irqchip");
    chip.setUint32(structs.kvm_irqchip.at.chip_id, id, true);
    kvmIoctl(vmFd, "KVM_GET_IRQCHIP", chip);
    return chip;
  });
  const pit = newStruct("kvm_pit_state2");
  kvmIoctl(vmFd, "KVM_GET_PIT2", pit);
  return { chips, pit };
}

/** Throws CodecError where the chips are not those of a machine, and SysError. */
export function restoreInterruptControllers(vmFd: number, state: InterruptControllerState): void {
  const ids = state.chips.map((chip) => chip.getUint32(structs.kvm_irqchip.at.chip_id, true));
  if (ids.length !== CHIPS.length || ids.some((id, i) => id !== CHIPS[i]))
    throw new CodecError(`interrupt controllers ${ids.join(", ")} instead of ${CHIPS.join(", ")}`);
  kvmIoctl(vmFd, "KVM_SET_PIT2", state.pit);
  for (const chip of state.chips) kvmIoctl(vmFd, "KVM_SET_IRQCHIP", chip);
}
