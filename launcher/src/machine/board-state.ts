import { list, record, u64, type ValueOf } from "../codec/codec.ts";
import { interruptControllerCodec } from "../kvm/x86/irqchip.ts";
import { savedVcpuCodec } from "../kvm/x86/saved-vcpu.ts";

/** What KVM holds of a machine, memory apart. */
export const boardStateCodec = record({
  vcpus: list(savedVcpuCodec, 64),
  controllers: interruptControllerCodec,
  /** kvmclock. */
  clockNs: u64,
});

export type BoardState = ValueOf<typeof boardStateCodec>;
