import { MULTUS_NETWORKS_ANNOTATION } from "../../crds/src/interface.ts";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { askMultus } from "../../hack/dev-cluster/multus/daemon.ts";
import { multusSocket } from "../../hack/dev-cluster/multus/multus.ts";
import { onNativeNode } from "../../hack/dev-cluster/native/node.ts";
import { ensureTools } from "../../hack/dev-cluster/tools/tools.ts";
import { run } from "../../hack/lib/step.ts";
import { NETWORK_STATUS_ANNOTATION } from "../../operator/src/controllers/virtualmachine/interface-status.ts";
import { CLUSTER_NAME, type TestCluster } from "./cluster.ts";
import type { Kubectl } from "./kubectl.ts";
import { type ToldNetwork, toldNetworks } from "./networks.ts";

const ASKED = MULTUS_NETWORKS_ANNOTATION;

interface AskedNetwork {
  readonly name: string;
  readonly namespace: string;
  readonly interface: string;
  readonly mac: string;
}

/** A network of the CNI plugin `bridge`: a bridge on the node, with addresses of its own. */
export interface BridgeNetwork {
  readonly bridge: string;
  readonly subnet: string;
}

export const bridgeConfiguration = ({ bridge, subnet }: BridgeNetwork): object => ({
  cniVersion: "1.0.0",
  name: bridge,
  type: "bridge",
  bridge,
  isGateway: true,
  ipam: { type: "host-local", ranges: [[{ subnet }]] },
});

/**
 * In the place of Multus' controller of dynamic networks, which no registry that we build from has: has Multus give a
 * running pod the networks that its annotation asks for, and take away those that it asks for no more, by the same
 * requests; and tells in its annotation. All networks are the same bridge.
 */
export async function changeNetworks(
  cluster: TestCluster,
  { kubectl, pod: name }: { readonly kubectl: Kubectl; readonly pod: string },
  network: BridgeNetwork,
): Promise<void> {
  const pod = await kubectl.get("pod", name);
  const asked = JSON.parse(pod?.metadata.annotations?.[ASKED] ?? "[]") as AskedNetwork[];
  const told = toldNetworks(pod);
  const uid = pod?.metadata.uid ?? "";
  const [process] = cluster.processesOf(uid);
  if (process === undefined) throw new Error(`pod ${name} has no process on this node`);
  const call = { uid, pid: process.pid, pod: name, namespace: pod?.metadata.namespace ?? "", network };
  const left = told.filter((each) => each.default || asked.some((wanted) => wanted.interface === each.interface));
  for (const each of told.filter((old) => !left.includes(old))) await delegate("DEL", call, each);
  const added: ToldNetwork[] = [];
  for (const each of asked.filter((wanted) => !left.some((old) => old.interface === wanted.interface))) {
    const { Result } = JSON.parse(await delegate("ADD", call, each)) as { Result: { ips: { address: string }[] } };
    const addresses = Result.ips.map(({ address }) => address.replace(/\/.*/, ""));
    added.push({ name: `${each.namespace}/${each.name}`, interface: each.interface, mac: each.mac, ips: addresses });
  }
  const annotations = { [NETWORK_STATUS_ANNOTATION]: JSON.stringify([...left, ...added]) };
  await kubectl.run(["patch", "pod", name, "--type=merge", "-p", JSON.stringify({ metadata: { annotations } })]);
}

/** Removes the bridge, and what the plugin remembers of addresses. */
export async function removeNetwork({ bridge }: BridgeNetwork): Promise<void> {
  const script = `ip link delete ${bridge} 2>/dev/null; rm -rf /var/lib/cni/networks/${bridge}`;
  await run(onNativeNode(layoutOf(CLUSTER_NAME), await ensureTools(), ["sh", "-c", script]));
}

interface DelegateCall {
  readonly uid: string;
  readonly pid: number;
  readonly namespace: string;
  readonly pod: string;
  readonly network: BridgeNetwork;
}

function delegate(
  command: "ADD" | "DEL",
  { uid, pid, namespace, pod, network }: DelegateCall,
  attachment: { readonly interface: string; readonly mac: string },
): Promise<string> {
  return askMultus(multusSocket(layoutOf(CLUSTER_NAME)), "/delegate", {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: uid,
      CNI_NETNS: `/proc/${pid}/ns/net`,
      CNI_IFNAME: attachment.interface,
      CNI_ARGS: `K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${pod};K8S_POD_UID=${uid}`,
    },
    // A string of bytes, as Go writes them.
    config: Buffer.from(JSON.stringify(bridgeConfiguration(network))).toString("base64"),
    interfaceAttributes: { mac: attachment.mac },
  });
}
