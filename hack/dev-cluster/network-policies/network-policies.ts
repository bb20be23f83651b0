import { join } from "node:path";
import { completeImageName, writeOciArchive } from "../../lib/oci.ts";
import { kubectl } from "../control-plane.ts";
import type { Layout } from "../layout.ts";
import { loadImage } from "../nodes.ts";
import type { ClusterState } from "../state.ts";
import { ensureKubeNetworkPolicies, type Tools } from "../tools/tools.ts";
import { versions } from "../tools/versions.ts";

const name = "kube-network-policies";
const namespace = "kube-system";
const image = completeImageName(`typevisor/${name}:${versions.kubeNetworkPolicies}`);
const METRICS_PORT = 9080;

/** Has every node enforce NetworkPolicies, as kube-network-policies is installed anywhere: by a pod on each. */
export async function ensureNetworkPolicies(layout: Layout, state: ClusterState, tools: Tools): Promise<void> {
  const program = join(await ensureKubeNetworkPolicies(), name);
  const archive = join(layout.stateDir, `${name}.tar`);
  const layers = [{ files: [{ path: name, source: program, mode: 0o755 }] }];
  await writeOciArchive({ name: image, layers, entrypoint: [`/${name}`] }, archive);
  await loadImage(layout, state, archive);
  const list = { apiVersion: "v1", kind: "List", items: objects };
  await kubectl(layout, tools, ["apply", "-f", "-"], JSON.stringify(list));
  const rollout = ["rollout", "status", `daemonset/${name}`, `--namespace=${namespace}`, "--timeout=180s"];
  await kubectl(layout, tools, rollout);
}

const labels = { app: name };
const reads = (apiGroup: string, ...resources: string[]) => ({
  apiGroups: [apiGroup],
  resources,
  verbs: ["list", "watch"],
});

/** The first packet of a connection waits in the kernel for this program's verdict; without the program it is dropped. */
const container = {
  name,
  image,
  imagePullPolicy: "Never",
  args: [
    "--hostname-override=$(NODE_NAME)",
    `--metrics-bind-address=127.0.0.1:${METRICS_PORT}`,
    // For kernels before 6.12.
    "--netfilter-bug-1766-fix=false",
  ],
  env: [{ name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } }],
  readinessProbe: { httpGet: { host: "127.0.0.1", port: METRICS_PORT, path: "/metrics" } },
  resources: { requests: { cpu: "10m", memory: "50Mi" } },
  securityContext: { privileged: true },
};

const objects: readonly object[] = [
  { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: { name },
    rules: [reads("", "pods", "namespaces"), reads("networking.k8s.io", "networkpolicies")],
  },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
    subjects: [{ kind: "ServiceAccount", name, namespace }],
  },
  {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name, namespace },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          hostNetwork: true,
          serviceAccountName: name,
          priorityClassName: "system-node-critical",
          tolerations: [{ operator: "Exists" }],
          containers: [container],
        },
      },
    },
  },
];
