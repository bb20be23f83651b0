import { NETWORK_STATUS_ANNOTATION } from "../../operator/src/controllers/virtualmachine/interface-status.ts";
import type { KubeObject } from "./kubectl.ts";

export interface ToldNetwork {
  readonly name: string;
  readonly interface: string;
  readonly mac: string;
  readonly ips: readonly string[];
  /** Of the pod network, which Multus tells of as well. */
  readonly default?: boolean;
}

/** A network as an object of the cluster; `configuration` is what its CNI plugin is told. */
export function networkDefinition(name: string, configuration: object): object {
  return {
    apiVersion: "k8s.cni.cncf.io/v1",
    kind: "NetworkAttachmentDefinition",
    metadata: { name },
    spec: { config: JSON.stringify(configuration) },
  };
}

export function toldNetworks(pod: KubeObject<unknown> | null): ToldNetwork[] {
  return JSON.parse(pod?.metadata.annotations?.[NETWORK_STATUS_ANNOTATION] ?? "[]") as ToldNetwork[];
}

/** Of a pod with one network beside the pod network. */
export function ownNetwork(pod: KubeObject<unknown> | null): ToldNetwork {
  const [own, ...more] = toldNetworks(pod).filter((each) => !each.default);
  if (own === undefined || more.length > 0)
    throw new Error(`networks of the pod: ${JSON.stringify(toldNetworks(pod))}`);
  return own;
}
