import type { NetworkInterface } from "../../../../crds/src/interface.ts";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { Pod } from "../../runtime/wire.ts";
import { interfacesOf, macOf, podInterfaceOf } from "./interfaces.ts";
import { identityOf } from "./names.ts";
import type { Observation } from "./observation.ts";

type InterfaceStatuses = NonNullable<VirtualMachineStatus["interfaces"]>;

/** Where Multus says what it made: https://github.com/k8snetworkplumbingwg/multi-net-spec, NetworkStatus. */
export const NETWORK_STATUS_ANNOTATION = "k8s.v1.cni.cncf.io/network-status";
const ADDRESSES_MAX = 16;

/**
 * A machine's interfaces as they are. What the launcher says of a run comes first; after a restart of the operator, what
 * it last said of the same pod. `pod` is the machine's own, unless it has ended.
 */
export function interfaceStatuses({ vm, launcher }: Observation, pod: Pod | undefined): InterfaceStatuses {
  const podUID = pod?.metadata?.uid;
  const said = podUID !== undefined && launcher?.podUID === podUID ? launcher.status?.interfaces : undefined;
  const before = podUID !== undefined && vm.status?.podUID === podUID ? vm.status.interfaces : undefined;
  const { uid } = identityOf(vm);
  return interfacesOf(vm.spec).flatMap((entry) => {
    const now = said?.find(({ name }) => name === entry.name);
    // New in the spec, and not in the machine before it is started again.
    if (said !== undefined && now === undefined) return [];
    const last = before?.find(({ name }) => name === entry.name);
    const mac = now?.mac ?? last?.mac ?? (entry.podIP === undefined ? macOf(uid, entry) : undefined);
    const state = now === undefined ? last?.state : now.link === "up" ? "Up" : "Down";
    const ipAddresses = pod === undefined ? [] : addressesOf(entry, pod, now?.addresses ?? []).slice(0, ADDRESSES_MAX);
    return {
      name: entry.name,
      ...(mac === undefined ? {} : { mac }),
      ...(state === undefined ? {} : { state }),
      ...(ipAddresses.length === 0 ? {} : { ipAddresses }),
    };
  });
}

/** On the pod network others reach the guest at the pod's addresses, whatever it calls itself. */
function addressesOf(entry: NetworkInterface, pod: Pod, given: readonly string[]): readonly string[] {
  if (entry.multus === undefined) {
    const { podIPs, podIP } = pod.status ?? {};
    return podIPs?.flatMap(({ ip }) => ip ?? []) ?? (podIP === undefined ? [] : [podIP]);
  }
  return given.length > 0 ? given : multusAddresses(pod, podInterfaceOf(entry));
}

function multusAddresses(pod: Pod, podInterface: string): readonly string[] {
  return podNetworks(pod).find((network) => network.interface === podInterface)?.ips ?? [];
}

/** A network that Multus says a pod has; others write such annotations, too, so each field may be missing. */
export interface PodNetwork {
  /** `NAMESPACE/NAME` of its NetworkAttachmentDefinition. */
  readonly name: string | undefined;
  readonly interface: string | undefined;
  readonly ips: readonly string[];
}

/** What Multus says of a pod's networks; none where that cannot be read. */
export function podNetworks(pod: Pod): PodNetwork[] {
  const networks: unknown = parse(pod.metadata?.annotations?.[NETWORK_STATUS_ANNOTATION]);
  if (!Array.isArray(networks)) return [];
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  return networks.map((network) => ({
    name: text(network?.name),
    interface: text(network?.interface),
    ips: Array.isArray(network?.ips) ? network.ips.filter((ip: unknown) => typeof ip === "string") : [],
  }));
}

function parse(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}
