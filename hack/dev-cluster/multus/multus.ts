import { mkdir, readFile, rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { succeeds, waitFor } from "../../lib/step.ts";
import { apiServerUrl, kubectl } from "../control-plane.ts";
import { renderKubeconfig, writeKubeconfig } from "../kubeconfig.ts";
import type { Layout, NodeIdentity } from "../layout.ts";
import { hostPath, mountNamespaceFile } from "../native/mount-namespace.ts";
import { netnsFile } from "../network.ts";
import { nodePaths } from "../node-config.ts";
import { ensureProcess, waitForProcess } from "../processes.ts";
import type { OverlayFile } from "../qemu/initramfs.ts";
import { sshCommand } from "../qemu/ssh.ts";
import { writeAtomic } from "../state.ts";
import { ensureMultusPrograms, type Tools } from "../tools/tools.ts";
import { askMultus } from "./daemon.ts";

export interface MultusOptions {
  readonly tools: Tools;
  readonly cgroupProcs: readonly string[];
  readonly node: NodeIdentity;
}

/** What Multus takes for its own client certificate of a node (its pkg/k8sclient). */
const organisation = "system:multus";
export const multusCertificate = ({ name }: NodeIdentity) => ({
  file: `multus-${name}`,
  commonName: `${organisation}:${name}`,
  organisation,
});
const certificateFile = "multus-client-current.pem";
const daemon = "multus-daemon";
const plugin = "multus-shim";

/** Where the daemon of a native node listens: to its plugin, and to who changes the networks of running pods. */
export const multusSocket = (layout: Layout) => join(socketDirectory(layout), "multus.sock");
const socketDirectory = (layout: Layout) => join(layout.runDir, "multus");

/** What Multus watches, and what it may do. */
export async function applyMultusObjects(layout: Layout, tools: Tools): Promise<void> {
  const list = { apiVersion: "v1", kind: "List", items: objects };
  await kubectl(layout, tools, ["apply", "-f", "-"], JSON.stringify(list));
  const definitions = `crd/${networkDefinitions}`;
  await kubectl(layout, tools, ["wait", "--for=condition=Established", "--timeout=60s", definitions]);
}

/**
 * Multus as a daemon ("thick") on the native node: from then on every pod gets its networks through it. It is a process
 * of the node, not a pod: it needs no image, and is there before the first pod is.
 */
export async function ensureMultus(layout: Layout, { tools, cgroupProcs, node }: MultusOptions): Promise<void> {
  const programs = await ensureMultusPrograms();
  await applyMultusObjects(layout, tools);
  const directory = join(layout.stateDir, "multus");
  const config = join(directory, "daemon.json");
  await writeCredentials(layout, node, directory);
  await writeAtomic(config, renderMultusConfig({ directory, socketDirectory: socketDirectory(layout) }));
  await installPlugin(hostPath(layout, join(nodePaths.cniAdminBinDir, plugin)), join(programs, plugin));
  await ensureProcess(layout, {
    name: "multus",
    netns: netnsFile(layout),
    mountNamespace: mountNamespaceFile(layout),
    cgroupProcs,
    env: multusEnvironment(node, tools.cni),
    argv: [join(programs, daemon), `-config=${config}`],
  });
  const answers = () =>
    askMultus(multusSocket(layout), "/healthz").then(
      () => true,
      () => false,
    );
  await waitForProcess(layout, "multus", answers, 60_000);
}

const onNodeVm = { directory: "/etc/kubernetes/multus", socketDirectory: "/run/multus" };

/** What the image of a node VM has for Multus: path on the node -> path here. */
export async function multusContent(): Promise<Record<string, string>> {
  const programs = await ensureMultusPrograms();
  return {
    [`/usr/local/bin/${daemon}`]: join(programs, daemon),
    [join(nodePaths.cniAdminBinDir, plugin)]: join(programs, plugin),
  };
}

/** The files with which a node VM starts the daemon by itself (qemu/kube-start). */
export async function multusFiles(layout: Layout, node: NodeIdentity): Promise<OverlayFile[]> {
  const { directory } = onNodeVm;
  const environment = Object.entries(multusEnvironment(node, nodePaths.cniBinDir));
  return [
    { path: join(directory, "daemon.json"), content: renderMultusConfig(onNodeVm) },
    { path: join(directory, "kubeconfig"), content: await renderKubeconfig(kubeconfigOptions(layout, node)) },
    { path: join(directory, certificateFile), content: await readCertificate(layout, node) },
    { path: "/etc/node/multus", content: environment.map(([name, value]) => `${name}=${value}\n`).join("") },
  ];
}

/** Pods that are made before would have the cluster's network alone. */
export async function waitForMultus(layout: Layout, nodes: readonly NodeIdentity[]): Promise<void> {
  const configuration = join(nodePaths.cniConfigDir, "00-multus.conf");
  const script = `[ -S ${onNodeVm.socketDirectory}/multus.sock ] && [ -s ${configuration} ]`;
  for (const node of nodes)
    await waitFor(() => succeeds(sshCommand(layout, node, [script])), {
      what: `Multus on ${node.name}`,
      timeoutMs: 120_000,
      intervalMs: 500,
    });
}

function multusEnvironment(node: NodeIdentity, cniBinDir: string): Record<string, string> {
  return { MULTUS_NODE_NAME: node.name, CNI_PATH: [cniBinDir, nodePaths.cniDebianBinDir].join(":") };
}

/** A kubeconfig, and where Multus would keep a certificate that it had the cluster sign: ours is valid for years. */
async function writeCredentials(layout: Layout, node: NodeIdentity, directory: string): Promise<void> {
  await writeKubeconfig(join(directory, "kubeconfig"), kubeconfigOptions(layout, node));
  await writeAtomic(join(directory, certificateFile), await readCertificate(layout, node));
}

function kubeconfigOptions({ pkiDir, name }: Layout, node: NodeIdentity) {
  return { pkiDir, user: multusCertificate(node).file, server: apiServerUrl, cluster: name };
}

async function readCertificate({ pkiDir }: Layout, node: NodeIdentity): Promise<string> {
  const part = (extension: string) => readFile(join(pkiDir, `${multusCertificate(node).file}.${extension}`), "utf8");
  return `${await part("crt")}\n${await part("key")}`;
}

/** https://github.com/k8snetworkplumbingwg/multus-cni/blob/master/docs/thick-plugin.md */
export function renderMultusConfig(at: { readonly directory: string; readonly socketDirectory: string }): string {
  return JSON.stringify({
    cniVersion: "1.0.0",
    logLevel: "verbose",
    logToStderr: true,
    binDir: nodePaths.cniAdminBinDir,
    cniConfigDir: nodePaths.cniConfigDir,
    multusAutoconfigDir: nodePaths.cniConfigDir,
    multusConfigFile: "auto",
    socketDir: at.socketDirectory,
    daemonSocketDir: at.socketDirectory,
    perNodeCertificate: {
      enabled: true,
      bootstrapKubeconfig: join(at.directory, "kubeconfig"),
      certDir: at.directory,
    },
  });
}

async function installPlugin(path: string, program: string): Promise<void> {
  await mkdir(join(path, ".."), { recursive: true });
  await rm(`${path}.new`, { force: true });
  await symlink(program, `${path}.new`);
  await rename(`${path}.new`, path);
}

const networkDefinitions = "network-attachment-definitions.k8s.cni.cncf.io";
const text = { type: "string" };

/** As of https://github.com/k8snetworkplumbingwg/multi-net-spec, and what Multus may do. */
const objects: readonly object[] = [
  {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: networkDefinitions },
    spec: {
      group: "k8s.cni.cncf.io",
      scope: "Namespaced",
      names: {
        plural: "network-attachment-definitions",
        singular: "network-attachment-definition",
        kind: "NetworkAttachmentDefinition",
        shortNames: ["net-attach-def"],
      },
      versions: [
        {
          name: "v1",
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: "object",
              properties: {
                apiVersion: text,
                kind: text,
                metadata: { type: "object" },
                spec: { type: "object", properties: { config: text } },
              },
            },
          },
        },
      ],
    },
  },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: { name: "multus" },
    rules: [
      { apiGroups: ["k8s.cni.cncf.io"], resources: ["*"], verbs: ["get", "list", "watch"] },
      { apiGroups: [""], resources: ["pods", "pods/status"], verbs: ["get", "list", "watch", "update"] },
      { apiGroups: ["", "events.k8s.io"], resources: ["events"], verbs: ["create", "patch", "update"] },
    ],
  },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: "multus" },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "multus" },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: organisation }],
  },
];
