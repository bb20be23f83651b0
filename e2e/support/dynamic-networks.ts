import { join } from "node:path";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { onNativeNode } from "../../hack/dev-cluster/native/node.ts";
import { ensureTools } from "../../hack/dev-cluster/tools/tools.ts";
import { run } from "../../hack/lib/step.ts";
import { CLUSTER_NAME, type TestCluster } from "./cluster.ts";
import type { Kubectl } from "./kubectl.ts";

const ASKED = "k8s.v1.cni.cncf.io/networks";
const TOLD = "k8s.v1.cni.cncf.io/network-status";

interface AskedNetwork {
  readonly name: string;
  readonly namespace: string;
  readonly interface: string;
  readonly mac: string;
}

interface ToldNetwork {
  readonly name: string;
  readonly interface: string;
  readonly mac: string;
  readonly ips: readonly string[];
}

/** The CNI plugin of a network: a bridge on the node, with addresses of its own. */
export interface BridgeNetwork {
  readonly bridge: string;
  readonly subnet: string;
}

/**
 * In the place of Multus and its controller of dynamic networks, which no registry that we build from has: gives a running
 * pod the networks that its annotation asks for by the real CNI plugin, takes away those that it asks for no more, and tells
 * in its annotation. All networks are the same bridge.
 */
export async function changeNetworks(
  cluster: TestCluster,
  { kubectl, pod: name }: { readonly kubectl: Kubectl; readonly pod: string },
  network: BridgeNetwork,
): Promise<void> {
  const pod = await kubectl.get("pod", name);
  const parse = <T>(key: string) => JSON.parse(pod?.metadata.annotations?.[key] ?? "[]") as T[];
  const [asked, told] = [parse<AskedNetwork>(ASKED), parse<ToldNetwork>(TOLD)];
  const uid = pod?.metadata.uid ?? "";
  const [process] = cluster.processesOf(uid);
  if (process === undefined) throw new Error(`pod ${name} has no process on this node`);
  const left = told.filter((each) => asked.some((wanted) => wanted.interface === each.interface));
  for (const each of told.filter((old) => !left.includes(old)))
    await plugin("DEL", { ...network, uid, pid: process.pid, interface: each.interface });
  const added: ToldNetwork[] = [];
  for (const each of asked.filter((wanted) => !left.some((old) => old.interface === wanted.interface))) {
    const answer = await plugin("ADD", { ...network, uid, pid: process.pid, ...each });
    const { ips } = JSON.parse(answer) as { ips: { address: string }[] };
    const addresses = ips.map(({ address }) => address.replace(/\/.*/, ""));
    added.push({ name: `${each.namespace}/${each.name}`, interface: each.interface, mac: each.mac, ips: addresses });
  }
  const annotations = { [TOLD]: JSON.stringify([...left, ...added]) };
  await kubectl.run(["patch", "pod", name, "--type=merge", "-p", JSON.stringify({ metadata: { annotations } })]);
}

/** Removes the bridge, and what the plugin remembers of addresses. */
export async function removeNetwork({ bridge }: BridgeNetwork): Promise<void> {
  await onNode(`ip link delete ${bridge} 2>/dev/null; rm -rf /var/lib/cni/networks/${bridge}`);
}

interface PluginCall extends BridgeNetwork {
  readonly uid: string;
  readonly pid: number;
  readonly interface: string;
  readonly mac?: string;
}

async function plugin(command: "ADD" | "DEL", call: PluginCall): Promise<string> {
  const { cni } = await ensureTools();
  const configuration = {
    cniVersion: "1.0.0",
    name: call.bridge,
    type: "bridge",
    bridge: call.bridge,
    isGateway: true,
    ipam: { type: "host-local", ranges: [[{ subnet: call.subnet }]] },
    ...(call.mac === undefined ? {} : { runtimeConfig: { mac: call.mac } }),
  };
  const environment = [
    `CNI_COMMAND=${command}`,
    `CNI_CONTAINERID=${call.uid}`,
    `CNI_NETNS=/proc/${call.pid}/ns/net`,
    `CNI_IFNAME=${call.interface}`,
    `CNI_PATH=${cni}`,
  ];
  return onNode(`${environment.join(" ")} ${join(cni, "bridge")}`, JSON.stringify(configuration));
}

async function onNode(script: string, input?: string): Promise<string> {
  const command = onNativeNode(layoutOf(CLUSTER_NAME), await ensureTools(), ["sh", "-c", script]);
  return run(command, input === undefined ? {} : { input });
}
