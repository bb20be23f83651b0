import { mkdir, open, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { say, succeeds, waitFor } from "../../lib/step.ts";
import { apiServerUrl, renderKubeProxyConfig } from "../control-plane.ts";
import { renderKubeconfig } from "../kubeconfig.ts";
import type { IpFamilies, Layout, NodeIdentity } from "../layout.ts";
import { multusContent, multusFiles } from "../multus/multus.ts";
import {
  kubeletArguments,
  nodePaths,
  renderCniConfig,
  renderContainerdConfig,
  renderKubeletConfig,
  renderResolvConf,
} from "../node-config.ts";
import { nodeImageArchives } from "../node-images/images.ts";
import { cniPlugins, kubePrograms, type Tools } from "../tools/tools.ts";
import type { Acceleration } from "./acceleration.ts";
import type { OverlayFile } from "./initramfs.ts";
import { buildNodeImage, type NodeImage } from "./node-image.ts";
import { ensureNodeVm } from "./node-vm.ts";
import { ensureSshKey, sshCommand } from "./ssh.ts";

export interface QemuNodesOptions {
  readonly tools: Tools;
  readonly acceleration: Acceleration;
  readonly memoryMiB: number;
  readonly cgroupProcs: readonly string[];
  readonly families: IpFamilies;
  /** Whether pods get their networks through Multus. */
  readonly multus: boolean;
}

/** Brings up the node VMs, all at once; each runs containerd, kubelet and kube-proxy by itself from then on. */
export async function ensureQemuNodes(
  layout: Layout,
  nodes: readonly NodeIdentity[],
  options: QemuNodesOptions,
): Promise<void> {
  const image = await kubernetesNodeImage(options.tools, options);
  await ensureSshKey(layout);
  const shared = await ensureDataDisk(layout, "shared");
  await Promise.all(
    nodes.map(async (node) => {
      const startedMs = performance.now();
      const others = nodes.filter((other) => other !== node);
      const result = await ensureNodeVm(layout, node, {
        image,
        acceleration: options.acceleration,
        memoryMiB: options.memoryMiB,
        cgroupProcs: options.cgroupProcs,
        files: [
          ...(await kubernetesFiles(layout, node, options.families)),
          ...(node === nodes[0] ? await nfsFiles() : []),
          ...(options.multus ? await multusFiles(layout, node) : []),
        ],
        extraDisks: [{ file: await ensureDataDisk(layout, node.name) }, { file: shared, shared: true }],
        routes: others.flatMap((other) =>
          options.families.map((family) => ({ range: other.podCidrs[family], via: other.addresses[family] })),
        ),
      });
      if (result === "kept") return;
      say(`${node.name}: booted in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
      await waitFor(() => succeeds(sshCommand(layout, node, ["pgrep", "-x", "kubelet"])), {
        what: `the kubelet of ${node.name}`,
        timeoutMs: 120_000,
        intervalMs: 500,
      });
    }),
  );
}

/** A node image with the cluster's programs, and the images that pods need before any is loaded. */
export async function kubernetesNodeImage(tools: Tools, { multus }: { multus: boolean }): Promise<NodeImage> {
  const content: Record<string, string> = multus ? await multusContent() : {};
  for (const { name, path } of await nodeImageArchives()) {
    content[`/usr/share/node-images/${basename(name).replace(":", "-")}.tar`] = path;
  }
  const add = (dir: string, programs: readonly string[]) => {
    for (const program of programs) content[`/usr/local/bin/${program}`] = join(dir, program);
  };
  add(tools.kube, ["kube", ...kubePrograms]);
  add(tools.containerd, ["containerd", "containerd-shim-runc-v2", "ctr"]);
  add(tools.runc, ["runc"]);
  for (const plugin of cniPlugins) content[join(nodePaths.cniBinDir, plugin)] = join(tools.cni, plugin);
  // The paths name the versions, so they stand for the content.
  return buildNodeImage({ content, extraPackages: storagePackages });
}

/** The kubelet mounts NFS volumes by mount.nfs; the first node serves them. */
const storagePackages = ["nfs-common", "nfs-kernel-server"];

async function nfsFiles(): Promise<OverlayFile[]> {
  return [
    { path: "/etc/node/nfs-server", content: await readFile(join(import.meta.dirname, "nfs-server")), mode: 0o755 },
  ];
}

const DATA_DISK_BYTES = 2 ** 30;

/** An empty sparse file for a disk of the nodes, kept as long as the cluster. */
async function ensureDataDisk(layout: Layout, name: string): Promise<string> {
  const file = join(layout.stateDir, "vms", `data-${name}.img`);
  await mkdir(dirname(file), { recursive: true });
  const handle = await open(file, "a");
  try {
    await handle.truncate(DATA_DISK_BYTES);
  } finally {
    await handle.close();
  }
  return file;
}

async function kubernetesFiles(layout: Layout, node: NodeIdentity, families: IpFamilies): Promise<OverlayFile[]> {
  const { pkiDir } = layout;
  const pki = (file: string) => readFile(join(pkiDir, file));
  const kubeconfig = (user: string) => renderKubeconfig({ pkiDir, user, server: apiServerUrl, cluster: layout.name });
  const proxyKubeconfig = "/etc/kubernetes/kube-proxy.kubeconfig";
  return [
    { path: "/etc/node/start", content: await readFile(join(import.meta.dirname, "kube-start")), mode: 0o755 },
    { path: "/etc/node/kubelet-arguments", content: `${kubeletArguments(node, families).join("\n")}\n` },
    {
      path: nodePaths.containerdConfig,
      content: renderContainerdConfig({ restrictOomScoreAdj: false, cniBinDir: nodePaths.cniBinDir }),
    },
    { path: nodePaths.cniConfig, content: renderCniConfig(node, families) },
    { path: nodePaths.kubeletConfig, content: renderKubeletConfig({ cgroupRoot: "/", families }) },
    { path: nodePaths.kubeletKubeconfig, content: await kubeconfig(`kubelet-${node.name}`) },
    { path: nodePaths.kubeletCertificate, content: await pki(`kubelet-${node.name}.crt`) },
    { path: nodePaths.kubeletKey, content: await pki(`kubelet-${node.name}.key`) },
    { path: nodePaths.clusterCa, content: await pki("ca.crt") },
    { path: nodePaths.resolvConf, content: renderResolvConf(families), mode: 0o644 },
    { path: "/etc/kubernetes/kube-proxy.yaml", content: renderKubeProxyConfig(proxyKubeconfig, node.name, families) },
    { path: proxyKubeconfig, content: await kubeconfig("kube-proxy") },
  ];
}
