import { stringify } from "yaml";
import { type IpFamilies, type NodeIdentity, ofFamilies } from "./layout.ts";
import { pauseImage } from "./node-images/images.ts";

/** Paths as a process on the node sees them, in a node VM and on a native node alike. */
export const nodePaths = {
  kubelet: "/var/lib/kubelet",
  kubeletConfig: "/etc/kubernetes/kubelet.yaml",
  kubeletKubeconfig: "/etc/kubernetes/kubelet.kubeconfig",
  kubeletCertificate: "/etc/kubernetes/kubelet.crt",
  kubeletKey: "/etc/kubernetes/kubelet.key",
  clusterCa: "/etc/kubernetes/ca.crt",
  resolvConf: "/etc/kubernetes/resolv.conf",
  containerdConfig: "/etc/containerd/config.toml",
  containerdRoot: "/var/lib/containerd",
  containerdState: "/run/containerd",
  containerdSocket: "/run/containerd/containerd.sock",
  cniConfigDir: "/etc/cni/net.d",
  cniConfig: "/etc/cni/net.d/10-pods.conflist",
  /** Of local-path-provisioner, by its own default. */
  localVolumes: "/opt/local-path-provisioner",
  /** First what a cluster admin adds; Debian's containernetworking-plugins have what is not built (tools/tools.ts). */
  cniAdminBinDir: "/opt/cni/bin",
  cniBinDir: "/usr/local/lib/cni",
  cniDebianBinDir: "/usr/lib/cni",
} as const;

export interface KubeletOptions {
  /** `/` or a cgroup that exists in every hierarchy; pods go to `kubepods` below it. */
  readonly cgroupRoot: string;
  readonly families: IpFamilies;
}

/** https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/ */
export function renderKubeletConfig(options: KubeletOptions): string {
  return stringify({
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: nodePaths.clusterCa },
    },
    authorization: { mode: "Webhook" },
    tlsCertFile: nodePaths.kubeletCertificate,
    tlsPrivateKeyFile: nodePaths.kubeletKey,
    healthzBindAddress: "127.0.0.1",
    containerRuntimeEndpoint: `unix://${nodePaths.containerdSocket}`,
    clusterDNS: ofFamilies(options.families, "dnsService"),
    clusterDomain: "cluster.local",
    resolvConf: nodePaths.resolvConf,
    cgroupDriver: "cgroupfs",
    cgroupRoot: options.cgroupRoot,
    // Machines of developers and continuous integration still have version 1.
    failCgroupV1: false,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    makeIPTablesUtilChains: false,
    // Fail rather than change kernel settings of the machine; up/native prepares what the kubelet wants to see.
    protectKernelDefaults: true,
    oomScoreAdj: 0,
    maxPods: 220,
    registryPullQPS: 0,
    serializeImagePulls: false,
    // Images are loaded, not pulled: one that is removed to make room does not come back.
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    evictionHard: { "memory.available": "50Mi" },
  });
}

/** Command line of the kubelet; the rest is in its configuration file. */
export function kubeletArguments(node: NodeIdentity, families: IpFamilies): string[] {
  return [
    `--config=${nodePaths.kubeletConfig}`,
    `--kubeconfig=${nodePaths.kubeletKubeconfig}`,
    `--hostname-override=${node.name}`,
    `--node-ip=${families.map((family) => node.addresses[family])}`,
  ];
}

export interface ContainerdOptions {
  /** Where the process may not lower oom_score_adj (no CAP_SYS_RESOURCE), runc must not try. */
  readonly restrictOomScoreAdj: boolean;
  /** Where the CNI plugins are that were built for the cluster. */
  readonly cniBinDir: string;
}

/** https://github.com/containerd/containerd/blob/main/docs/cri/config.md */
export function renderContainerdConfig(options: ContainerdOptions): string {
  const binDirs = [nodePaths.cniAdminBinDir, options.cniBinDir, nodePaths.cniDebianBinDir];
  return `version = 3
root = "${nodePaths.containerdRoot}"
state = "${nodePaths.containerdState}"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]

[grpc]
address = "${nodePaths.containerdSocket}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "${pauseImage}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = ${options.restrictOomScoreAdj}

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = [${binDirs.map((dir) => `"${dir}"`).join(", ")}]
conf_dir = "${nodePaths.cniConfigDir}"
`;
}

/** A bridge on each node; nothing is hidden behind the node's address, so pods see each other's own. */
export function renderCniConfig(node: NodeIdentity, families: IpFamilies): string {
  const bridge = {
    type: "bridge",
    bridge: "cni0",
    isGateway: true,
    ipMasq: false,
    hairpinMode: true,
    ipam: {
      type: "host-local",
      ranges: families.map((family) => [{ subnet: node.podCidrs[family] }]),
      routes: families.map((family) => ({ dst: family === "IPv4" ? "0.0.0.0/0" : "::/0" })),
    },
  };
  const plugins = [bridge, { type: "portmap", capabilities: { portMappings: true } }];
  return `${JSON.stringify({ cniVersion: "1.0.0", name: "pods", plugins }, null, 2)}\n`;
}

/** Pods resolve names through the cluster's DNS service; the machine's own resolver is none of theirs. */
export function renderResolvConf(families: IpFamilies): string {
  return ofFamilies(families, "dnsService")
    .map((server) => `nameserver ${server}\n`)
    .join("");
}
