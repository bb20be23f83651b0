import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { run, succeeds } from "../../lib/step.ts";
import { apiServerUrl } from "../control-plane.ts";
import { writeKubeconfig } from "../kubeconfig.ts";
import type { IpFamilies, Layout, NodeIdentity } from "../layout.ts";
import { inNetns, netnsFile } from "../network.ts";
import {
  kubeletArguments,
  nodePaths,
  renderCniConfig,
  renderContainerdConfig,
  renderKubeletConfig,
  renderResolvConf,
} from "../node-config.ts";
import { nodeImageArchives } from "../node-images/images.ts";
import { ensureProcess, waitForProcess } from "../processes.ts";
import { writeAtomic } from "../state.ts";
import type { Tools } from "../tools/tools.ts";
import { ensureMountNamespace, hostPath, mountNamespaceFile } from "./mount-namespace.ts";

export interface NativeNodeOptions {
  readonly tools: Tools;
  readonly cgroupProcs: readonly string[];
  readonly families: IpFamilies;
}

/** Makes this machine a node of the cluster: containerd and kubelet in namespaces of their own. */
export async function ensureNativeNode(layout: Layout, node: NodeIdentity, options: NativeNodeOptions): Promise<void> {
  const { tools, cgroupProcs, families } = options;
  await ensureMountNamespace(layout);
  await writeNodeFiles(layout, node, options);
  const inside = { netns: netnsFile(layout), mountNamespace: mountNamespaceFile(layout), cgroupProcs };
  const env = { PATH: toolPath(tools) };
  await ensureProcess(layout, {
    ...inside,
    name: "containerd",
    env,
    argv: [join(tools.containerd, "containerd"), "--config", nodePaths.containerdConfig],
  });
  const answers = () => succeeds(onNativeNode(layout, tools, ["ctr", "version"]));
  await waitForProcess(layout, "containerd", answers, 30_000);
  const present = await imageNames(layout, tools);
  for (const { name, path } of await nodeImageArchives()) {
    if (!present.includes(name)) await loadNativeImage(layout, tools, path);
  }
  await ensureProcess(layout, {
    ...inside,
    name: "kubelet",
    env,
    argv: [join(tools.kube, "kubelet"), ...kubeletArguments(node, families)],
  });
}

async function writeNodeFiles(
  layout: Layout,
  node: NodeIdentity,
  { tools, families }: NativeNodeOptions,
): Promise<void> {
  const { pkiDir } = layout;
  const place = (path: string, content: string) => writeAtomic(hostPath(layout, path), content);
  const copy = async (from: string, path: string) => place(path, await readFile(join(pkiDir, from), "utf8"));
  await place(nodePaths.containerdConfig, renderContainerdConfig({ restrictOomScoreAdj: true, cniBinDir: tools.cni }));
  await place(nodePaths.cniConfig, renderCniConfig(node, families));
  await place(nodePaths.kubeletConfig, renderKubeletConfig({ cgroupRoot: `/${layout.cgroup}`, families }));
  await place(nodePaths.resolvConf, renderResolvConf(families));
  await copy("ca.crt", nodePaths.clusterCa);
  await copy(`kubelet-${node.name}.crt`, nodePaths.kubeletCertificate);
  await copy(`kubelet-${node.name}.key`, nodePaths.kubeletKey);
  await writeKubeconfig(hostPath(layout, nodePaths.kubeletKubeconfig), {
    pkiDir,
    user: `kubelet-${node.name}`,
    server: apiServerUrl,
    cluster: layout.name,
  });
}

/** A command as the node sees the world: its network, its directories, the cluster's programs in PATH. */
export function onNativeNode(layout: Layout, tools: Tools, command: readonly string[]): string[] {
  const [nsenter = "", net = ""] = inNetns(layout);
  const enter = [nsenter, net, `--mount=${mountNamespaceFile(layout)}`, "--"];
  return [...enter, "env", `PATH=${toolPath(tools)}`, ...command];
}

function toolPath(tools: Tools): string {
  const own = [tools.kube, tools.containerd, tools.runc, tools.helm];
  return [...own, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].join(":");
}

/** Imports an OCI archive into the node's containerd. */
export async function loadNativeImage(layout: Layout, tools: Tools, archive: string): Promise<void> {
  await run(onNativeNode(layout, tools, ["ctr", "--namespace", "k8s.io", "images", "import", archive]));
}

async function imageNames(layout: Layout, tools: Tools): Promise<string[]> {
  const names = await run(onNativeNode(layout, tools, ["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]));
  return names.split("\n");
}
