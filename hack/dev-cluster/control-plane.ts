import { join } from "node:path";
import { stringify } from "yaml";
import { run } from "../lib/step.ts";
import { writeKubeconfig } from "./kubeconfig.ts";
import { addresses, familyAddresses, type IpFamilies, type Layout, type NodeIdentity, ofFamilies } from "./layout.ts";
import { netnsFile } from "./network.ts";
import { ensureProcess, type ProcessSpec, waitForProcess } from "./processes.ts";
import { writeAtomic } from "./state.ts";
import type { Tools } from "./tools/tools.ts";

export interface ControlPlaneOptions {
  readonly tools: Tools;
  readonly apiPort: number;
  readonly families: IpFamilies;
  readonly cgroupProcs: readonly string[];
}

export interface ServiceProxyOptions {
  readonly tools: Tools;
  readonly cgroupProcs: readonly string[];
  /** Services are as this node sees them. */
  readonly node: NodeIdentity;
  readonly families: IpFamilies;
}

export const apiServerUrl = `https://${addresses.controlPlane}:${addresses.apiPort}`;

/** Brings up etcd, the API server and its controllers; returns when the API server is ready. */
export async function ensureControlPlane(layout: Layout, options: ControlPlaneOptions): Promise<void> {
  const { pkiDir, stateDir, name } = layout;
  for (const user of ["kube-controller-manager", "kube-scheduler"]) {
    const file = join(stateDir, `${user}.kubeconfig`);
    await writeKubeconfig(file, { pkiDir, user, server: apiServerUrl, cluster: name });
  }
  const server = `https://127.0.0.1:${options.apiPort}`;
  await writeKubeconfig(layout.kubeconfig, { pkiDir, user: "admin", server, cluster: `typevisor-${name}` });

  const start = (spec: ProcessSpec) => ensureProcess(layout, { ...spec, cgroupProcs: options.cgroupProcs });
  const inside = { netns: netnsFile(layout) };
  await start({ ...inside, name: "etcd", argv: etcdCommand(layout) });
  await start({ ...inside, name: "kube-apiserver", argv: apiServerCommand(layout, options) });
  for (const forwarder of forwarders(layout, options.apiPort)) await start(forwarder);
  await waitForApi(layout, options.tools);
  const kube = (program: string) => join(options.tools.kube, program);
  await start({
    ...inside,
    name: "kube-controller-manager",
    argv: controllerManagerCommand(layout, kube("kube-controller-manager"), options.families),
  });
  await start({ ...inside, name: "kube-scheduler", argv: schedulerCommand(layout, kube("kube-scheduler")) });
}

/**
 * Lets the control plane's namespace reach Services: the API server calls webhooks there.
 * kube-proxy needs the node that it acts for, so this comes after the nodes.
 */
export async function ensureServiceProxy(layout: Layout, options: ServiceProxyOptions): Promise<void> {
  const config = join(layout.stateDir, "kube-proxy.yaml");
  const kubeconfig = join(layout.stateDir, "kube-proxy.kubeconfig");
  await writeKubeconfig(kubeconfig, {
    pkiDir: layout.pkiDir,
    user: "kube-proxy",
    server: apiServerUrl,
    cluster: layout.name,
  });
  await writeAtomic(config, renderKubeProxyConfig(kubeconfig, options.node.name, options.families));
  await ensureProcess(layout, {
    name: "kube-proxy",
    netns: netnsFile(layout),
    cgroupProcs: options.cgroupProcs,
    argv: [join(options.tools.kube, "kube-proxy"), `--config=${config}`],
  });
}

async function waitForApi(layout: Layout, tools: Tools): Promise<void> {
  const ask = () =>
    kubectl(layout, tools, ["get", "--raw", "/readyz", "--request-timeout=2s"]).then(
      (answer) => answer === "ok",
      () => false,
    );
  await waitForProcess(layout, "kube-apiserver", ask, 90_000);
}

/** Runs kubectl against the cluster and gives its standard output. */
export function kubectl(layout: Layout, tools: Tools, args: readonly string[], input?: string): Promise<string> {
  return run([join(tools.kube, "kubectl"), `--kubeconfig=${layout.kubeconfig}`, ...args], input ? { input } : {});
}

function etcdCommand(layout: Layout): string[] {
  const pki = (file: string) => join(layout.pkiDir, file);
  const client = "https://127.0.0.1:2379";
  return [
    "etcd",
    "--name=dev",
    `--data-dir=${join(layout.stateDir, "etcd")}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    "--listen-peer-urls=http://127.0.0.1:2380",
    "--initial-advertise-peer-urls=http://127.0.0.1:2380",
    "--initial-cluster=dev=http://127.0.0.1:2380",
    `--cert-file=${pki("etcd.crt")}`,
    `--key-file=${pki("etcd.key")}`,
    `--trusted-ca-file=${pki("etcd-ca.crt")}`,
    "--client-cert-auth",
    // A development cluster may lose its last second in a power cut; a slow disk must not slow every write.
    "--unsafe-no-fsync",
  ];
}

function apiServerCommand(layout: Layout, { tools, families }: ControlPlaneOptions): string[] {
  const pki = (file: string) => join(layout.pkiDir, file);
  return [
    join(tools.kube, "kube-apiserver"),
    // What pods find behind the Service `kubernetes`, which is of the first family.
    `--advertise-address=${familyAddresses[families[0]].controlPlane}`,
    `--secure-port=${addresses.apiPort}`,
    "--etcd-servers=https://127.0.0.1:2379",
    `--etcd-cafile=${pki("etcd-ca.crt")}`,
    `--etcd-certfile=${pki("apiserver-etcd-client.crt")}`,
    `--etcd-keyfile=${pki("apiserver-etcd-client.key")}`,
    `--tls-cert-file=${pki("apiserver.crt")}`,
    `--tls-private-key-file=${pki("apiserver.key")}`,
    `--client-ca-file=${pki("ca.crt")}`,
    `--kubelet-certificate-authority=${pki("ca.crt")}`,
    `--kubelet-client-certificate=${pki("apiserver-kubelet-client.crt")}`,
    `--kubelet-client-key=${pki("apiserver-kubelet-client.key")}`,
    "--kubelet-preferred-address-types=InternalIP",
    `--requestheader-client-ca-file=${pki("front-proxy-ca.crt")}`,
    "--requestheader-allowed-names=front-proxy-client",
    "--requestheader-username-headers=X-Remote-User",
    "--requestheader-group-headers=X-Remote-Group",
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    `--proxy-client-cert-file=${pki("front-proxy-client.crt")}`,
    `--proxy-client-key-file=${pki("front-proxy-client.key")}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${pki("service-account.key")}`,
    `--service-account-signing-key-file=${pki("service-account.key")}`,
    `--service-cluster-ip-range=${ofFamilies(families, "serviceRange")}`,
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    "--allow-privileged=true",
    "--profiling=false",
  ];
}

function controllerManagerCommand(layout: Layout, program: string, families: IpFamilies): string[] {
  const pki = (file: string) => join(layout.pkiDir, file);
  return [
    program,
    ...ownKubeconfig(layout, "kube-controller-manager"),
    "--bind-address=127.0.0.1",
    "--leader-elect=false",
    "--use-service-account-credentials",
    `--root-ca-file=${pki("ca.crt")}`,
    `--service-account-private-key-file=${pki("service-account.key")}`,
    `--cluster-signing-cert-file=${pki("ca.crt")}`,
    `--cluster-signing-key-file=${pki("ca.key")}`,
    // Each node's pod range is fixed by its number (layout.ts), for its routes and its CNI file name it.
    "--allocate-node-cidrs=false",
    `--cluster-cidr=${ofFamilies(families, "podRange")}`,
    "--profiling=false",
  ];
}

function schedulerCommand(layout: Layout, program: string): string[] {
  return [
    program,
    ...ownKubeconfig(layout, "kube-scheduler"),
    "--bind-address=127.0.0.1",
    "--leader-elect=false",
    "--profiling=false",
  ];
}

function ownKubeconfig(layout: Layout, user: string): string[] {
  const file = join(layout.stateDir, `${user}.kubeconfig`);
  return [`--kubeconfig=${file}`, `--authentication-kubeconfig=${file}`, `--authorization-kubeconfig=${file}`];
}

/** The same file for every kube-proxy; only the place of its kubeconfig and the node differ. */
export function renderKubeProxyConfig(kubeconfig: string, node: string, families: IpFamilies): string {
  return stringify({
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: "nftables",
    clusterCIDR: ofFamilies(families, "podRange").join(),
    hostnameOverride: node,
    clientConnection: { kubeconfig },
    bindAddress: "0.0.0.0",
    healthzBindAddress: "127.0.0.1:10256",
    metricsBindAddress: "127.0.0.1:10249",
    // The limit of conntrack belongs to the machine; a namespace of it cannot set it.
    conntrack: { maxPerCore: 0, min: 0 },
    oomScoreAdj: 0,
  });
}

/** The API server is in the namespace; these two lead to it from 127.0.0.1 outside. */
function forwarders(layout: Layout, apiPort: number): ProcessSpec[] {
  const socket = join(layout.runDir, "api.sock");
  return [
    {
      name: "forward-inner",
      netns: netnsFile(layout),
      argv: [
        "socat",
        `UNIX-LISTEN:${socket},fork,unlink-early,mode=600`,
        `TCP:${addresses.controlPlane}:${addresses.apiPort}`,
      ],
    },
    {
      name: "forward-outer",
      argv: ["socat", `TCP-LISTEN:${apiPort},bind=127.0.0.1,fork,reuseaddr`, `UNIX-CONNECT:${socket}`],
    },
  ];
}
