import type { GuestAddresses, TapWant } from "../../../../../launcher/api/agent.ts";
import { planMasquerade } from "./masquerade.ts";
import { planMultus } from "./multus.ts";
import { planPodIp } from "./pod-ip.ts";
import { CLUSTER_INTERFACE, type PodInterface } from "./pod-network.ts";
import type { Route } from "./rtnetlink.ts";
import type { TapNames } from "./tap-names.ts";

/** What is to be done in a pod's network namespace for one TAP. Made from what was seen; touches nothing. */
export interface TapPlan {
  /** Of the TAP in the pod's namespace; the kernel makes one up when absent. */
  readonly gatewayMac?: string;
  readonly mtuBytes: number;
  readonly settings: readonly Setting[];
  /** Links between the pod's kernel and the guest, one a family. */
  readonly ends: readonly LinkEnds[];
  /** More addresses of the pod's end. */
  readonly linkLocal?: string;
  /** The pod's interface has to take multicast frames that nobody in the pod asked for. */
  readonly allMulticast: boolean;
  /** Routes over the pod's interface that are the guest's alone. */
  readonly routesPutAside?: readonly Route[];
  /** nftables commands: they replace what an earlier wiring left. */
  readonly rules: string;
  /** Those that exist once the rules do. */
  readonly settingsOfRules: readonly Setting[];
  /** What the guest has to be told. */
  readonly mac?: string;
  readonly guest?: GuestAddresses;
}

/** A file below /proc/sys/net of the namespace. */
export interface Setting {
  readonly path: string;
  readonly value: string;
  /** Only where it has this value now. */
  readonly from?: string;
  /** Some kernels have no such setting, and need none. */
  readonly optional?: true;
}

/** Addresses of the two ends of a link; each is alone in its prefix, so that nothing else is routed to the guest. */
export interface LinkEnds {
  readonly pod: string;
  readonly guest: string;
  readonly guestMac: string;
}

export interface PlanInputs {
  readonly want: TapWant;
  readonly pod: PodInterface;
  readonly names: TapNames;
  /** Whether the launcher gets an answering TAP. */
  readonly answering: boolean;
}

/** Which interface of the pod a TAP is for. */
export function podInterfaceOf({ binding }: TapWant): string {
  return binding.kind === "multus" ? binding.podInterface : CLUSTER_INTERFACE;
}

/** Throws AgentFailure where the pod's network cannot have it. */
export function planTap(inputs: PlanInputs): TapPlan {
  const { binding } = inputs.want;
  switch (binding.kind) {
    case "masquerade":
      return planMasquerade(inputs, binding);
    case "podIP":
      return planPodIp(inputs, binding);
    case "multus":
      return planMultus(inputs, binding);
  }
}
