import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { layoutOf } from "../../hack/dev-cluster/layout.ts";
import { stopProcess } from "../../hack/dev-cluster/processes.ts";
import { ensureTools } from "../../hack/dev-cluster/tools/tools.ts";
import { command } from "./command.ts";
import { eventually } from "./eventually.ts";
import { Kubectl } from "./kubectl.ts";

const root = join(import.meta.dirname, "..", "..");

/** Name of the cluster that the e2e tier uses; set up once by `global-setup.ts`. */
export const CLUSTER_NAME = process.env["TYPEVISOR_E2E_CLUSTER"] ?? "e2e";
export const SYSTEM_NAMESPACE = "typevisor-system";
export const RELEASE = "typevisor";

/** The native cluster of the e2e tier: this machine is its node. */
export interface TestCluster {
  readonly system: Kubectl;
  /** Makes a namespace that enforces Pod Security `restricted`. */
  namespace(name: string): Promise<Kubectl>;
  /** Deletes it with all in it, and waits until it is gone. */
  dropNamespace(name: string): Promise<void>;
  /** Ends a program of the cluster, such as kubelet, and starts it again. */
  restart(program: string): Promise<void>;
  helm(...args: string[]): Promise<string>;
  /** Processes of a pod on this node, by the pod's UID in their cgroup. */
  processesOf(podUid: string): { pid: number; command: string }[];
}

export async function openTestCluster(): Promise<TestCluster> {
  const layout = layoutOf(CLUSTER_NAME);
  const tools = await ensureTools();
  const { kubeconfig } = layout;
  const helmPath = join(tools.helm, "helm");
  const kubectl = new Kubectl(join(tools.kube, "kubectl"), kubeconfig, "default");
  return {
    system: kubectl.in(SYSTEM_NAMESPACE),
    async namespace(name) {
      const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
      await kubectl.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
      const inside = kubectl.in(name);
      await eventually(`service account of ${name}`, 30_000, () => inside.get("serviceaccount", "default"));
      return inside;
    },
    async dropNamespace(name) {
      await kubectl.run(["delete", "namespace", name, "--ignore-not-found", "--timeout=90s"], { timeoutMs: 100_000 });
    },
    async restart(program) {
      await stopProcess(layout, program);
      await command([join(root, "hack/cluster"), "up", "--name", CLUSTER_NAME], { timeoutMs: 300_000 });
    },
    helm: (...args) =>
      command([helmPath, "--kubeconfig", kubeconfig, "--namespace", SYSTEM_NAMESPACE, ...args], { timeoutMs: 180_000 }),
    processesOf,
  };
}

function processesOf(podUid: string): { pid: number; command: string }[] {
  const found: { pid: number; command: string }[] = [];
  const marks = [podUid, podUid.replaceAll("-", "_")];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      const cgroup = readFileSync(`/proc/${pid}/cgroup`, "utf8");
      if (!marks.some((mark) => cgroup.includes(mark))) continue;
      found.push({ pid, command: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim() });
    } catch {
      // The process ended while we looked.
    }
  }
  return found;
}
