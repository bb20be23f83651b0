import { isIPv6 } from "node:net";
import { join } from "node:path";
import { succeeds } from "../../lib/step.ts";
import { apiServerUrl, kubectl } from "../control-plane.ts";
import { writeKubeconfig } from "../kubeconfig.ts";
import { familyAddresses, type IpFamilies, type Layout, ofFamilies } from "../layout.ts";
import { inNetns, netnsFile } from "../network.ts";
import { ensureProcess, waitForProcess } from "../processes.ts";
import { writeAtomic } from "../state.ts";
import type { Tools } from "../tools/tools.ts";

export interface ClusterDnsOptions {
  readonly tools: Tools;
  readonly cgroupProcs: readonly string[];
  readonly families: IpFamilies;
}

/** CoreDNS is a process of the control plane, not a pod: it needs no image, and is there before the first pod is. */
const user = "coredns";

/** Has names of Services and pods resolved, as kubelets tell pods; returns when the DNS Service answers. */
export async function ensureClusterDns(
  layout: Layout,
  { tools, cgroupProcs, families }: ClusterDnsOptions,
): Promise<void> {
  const { pkiDir, stateDir } = layout;
  await kubectl(
    layout,
    tools,
    ["apply", "-f", "-"],
    JSON.stringify({ apiVersion: "v1", kind: "List", items: objects(families) }),
  );
  const kubeconfig = join(stateDir, `${user}.kubeconfig`);
  await writeKubeconfig(kubeconfig, { pkiDir, user, server: apiServerUrl, cluster: layout.name });
  const corefile = join(stateDir, "Corefile");
  await writeAtomic(corefile, renderCorefile(kubeconfig));
  await ensureProcess(layout, {
    name: "coredns",
    netns: netnsFile(layout),
    cgroupProcs,
    argv: [join(tools.dns, "coredns"), "-conf", corefile],
  });
  // It listens once it has listed Services; kube-proxy has to lead there as well.
  const probes = ofFamilies(families, "dnsService").map((server) =>
    inNetns(layout, "socat", "/dev/null", `TCP:${isIPv6(server) ? `[${server}]` : server}:53,connect-timeout=2`),
  );
  const answers = async () => (await Promise.all(probes.map((probe) => succeeds(probe)))).every(Boolean);
  await waitForProcess(layout, "coredns", answers, 30_000);
}

/** Nobody is asked about names outside of the cluster: those are refused. Short-lived answers, for tests. */
export function renderCorefile(kubeconfig: string): string {
  const zones = "cluster.local in-addr.arpa ip6.arpa";
  return `${zones} {
  bind ${Object.values(familyAddresses)
    .map(({ controlPlane }) => controlPlane)
    .join(" ")}
  errors
  kubernetes ${zones} {
    kubeconfig ${kubeconfig}
    ttl 1
  }
}
`;
}

const namespace = "kube-system";
const name = "kube-dns";
const port = (protocol: "UDP" | "TCP") => ({ name: protocol === "UDP" ? "dns" : "dns-tcp", protocol, port: 53 });

const objects = (families: IpFamilies): object[] => [
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: { name: user },
    rules: [
      { apiGroups: [""], resources: ["services", "namespaces"], verbs: ["list", "watch"] },
      { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
    ],
  },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: user },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: user },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: user }],
  },
  {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace },
    spec: {
      clusterIP: familyAddresses[families[0]].dnsService,
      clusterIPs: ofFamilies(families, "dnsService"),
      ipFamilies: families,
      ipFamilyPolicy: families.length > 1 ? "RequireDualStack" : "SingleStack",
      ports: [port("UDP"), port("TCP")],
    },
  },
  ...families.map((family) => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${name}-${family.toLowerCase()}`,
      namespace,
      labels: { "kubernetes.io/service-name": name },
    },
    addressType: family,
    endpoints: [{ addresses: [familyAddresses[family].controlPlane], conditions: { ready: true } }],
    ports: [port("UDP"), port("TCP")],
  })),
];
