import { join } from "node:path";
import { type IpFamilies, layoutOf } from "../../hack/dev-cluster/layout.ts";
import { stopProcess } from "../../hack/dev-cluster/processes.ts";
import { readState } from "../../hack/dev-cluster/state.ts";
import { ensureTools } from "../../hack/dev-cluster/tools/tools.ts";
import { run } from "../../hack/lib/step.ts";
import { eventually } from "./eventually.ts";
import { Kubectl } from "./kubectl.ts";
import { leftovers, type Process, processesOf } from "./leftovers.ts";
import { podOf } from "./vm.ts";

const root = join(import.meta.dirname, "..", "..");

/** Name of the cluster that the e2e tier uses; set up once by `global-setup.ts`. */
export const CLUSTER_NAME = process.env["TYPEVISOR_E2E_CLUSTER"] ?? "e2e";
export const SYSTEM_NAMESPACE = "typevisor-system";
export const RELEASE = "typevisor";

/** A cluster of the e2e tier. Of the native one, this machine is the node. */
export interface TestCluster {
  readonly system: Kubectl;
  /** Of pods and Services, in their order. */
  readonly families: IpFamilies;
  /** Makes a namespace that enforces Pod Security `restricted`. */
  namespace(name: string): Promise<Kubectl>;
  /** Deletes it with all in it, and waits until it is gone. */
  dropNamespace(name: string): Promise<void>;
  /** Ends a program of the cluster, such as kubelet, and starts it again. */
  restart(program: string): Promise<void>;
  helm(...args: string[]): Promise<string>;
  /** Processes of a pod on this machine. */
  processesOf(podUid: string): Process[];
  /** Kills those whose command matches with SIGKILL, as a node out of memory would; answers how many there were. */
  killPod(of: Kubectl, pod: string, command: RegExp): Promise<number>;
  /** Deletes a VM and waits until nothing is left of it: no object, process, mount, tap or loop device. */
  deleteVm(kubectl: Kubectl, name: string): Promise<void>;
}

export async function openTestCluster(clusterName = CLUSTER_NAME): Promise<TestCluster> {
  const layout = layoutOf(clusterName);
  const tools = await ensureTools();
  const { kubeconfig } = layout;
  const helmPath = join(tools.helm, "helm");
  const kubectl = new Kubectl(join(tools.kube, "kubectl"), kubeconfig, "default");
  return {
    system: kubectl.in(SYSTEM_NAMESPACE),
    families: (await readState(layout))?.families ?? ["IPv4", "IPv6"],
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
      await run([join(root, "hack/cluster"), "up", "--name", clusterName], { timeoutMs: 300_000 });
    },
    helm: (...args) =>
      run([helmPath, "--kubeconfig", kubeconfig, "--namespace", SYSTEM_NAMESPACE, ...args], { timeoutMs: 600_000 }),
    processesOf,
    async killPod(of, pod, command) {
      const uid = (await of.get("pod", pod))?.metadata.uid ?? "none";
      const targets = processesOf(uid).filter((process) => command.test(process.command));
      for (const { pid } of targets) process.kill(pid, "SIGKILL");
      return targets.length;
    },
    async deleteVm(kubectl, name) {
      const podUid = (await kubectl.get("pod", podOf(name)))?.metadata.uid ?? "none";
      await kubectl.run(["delete", "vm", name, "--timeout=60s"], { timeoutMs: 70_000 });
      await eventually(`nothing is left of ${name}`, 60_000, async () => {
        const left = await leftovers({ layout, tools }, kubectl, { name, podUid });
        if (left.length > 0) throw new Error(left.join("\n"));
        return true;
      });
    },
  };
}
