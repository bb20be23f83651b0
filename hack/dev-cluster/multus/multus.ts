import { mkdir, readFile, rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { apiServerUrl, kubectl } from "../control-plane.ts";
import { writeKubeconfig } from "../kubeconfig.ts";
import type { Layout, NodeIdentity } from "../layout.ts";
import { hostPath, mountNamespaceFile } from "../native/mount-namespace.ts";
import { netnsFile } from "../network.ts";
import { nodePaths } from "../node-config.ts";
import { ensureProcess, waitForProcess } from "../processes.ts";
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
const plugin = "multus-shim";

/** Where the daemon listens: to its plugin, and to who changes the networks of running pods. */
export const multusSocket = (layout: Layout) => join(socketDirectory(layout), "multus.sock");
const socketDirectory = (layout: Layout) => join(layout.runDir, "multus");

/**
 * Multus as a daemon ("thick") on the native node: from then on every pod gets its networks through it. It is a process
 * of the node, not a pod: it needs no image, and is there before the first pod is.
 */
export async function ensureMultus(layout: Layout, { tools, cgroupProcs, node }: MultusOptions): Promise<void> {
  const programs = await ensureMultusPrograms();
  await kubectl(
    layout,
    tools,
    ["apply", "-f", "-"],
    JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }),
  );
  const definitions = `crd/${networkDefinitions}`;
  await kubectl(layout, tools, ["wait", "--for=condition=Established", "--timeout=60s", definitions]);
  const directory = join(layout.stateDir, "multus");
  const config = join(directory, "daemon.json");
  await writeCredentials(layout, node, directory);
  await writeAtomic(config, renderMultusConfig(layout, directory));
  await installPlugin(hostPath(layout, join(nodePaths.cniAdminBinDir, plugin)), join(programs, plugin));
  const binDirs = [tools.cni, nodePaths.cniDebianBinDir];
  await ensureProcess(layout, {
    name: "multus",
    netns: netnsFile(layout),
    mountNamespace: mountNamespaceFile(layout),
    cgroupProcs,
    env: { MULTUS_NODE_NAME: node.name, CNI_PATH: binDirs.join(":") },
    argv: [join(programs, "multus-daemon"), `-config=${config}`],
  });
  const answers = () =>
    askMultus(multusSocket(layout), "/healthz").then(
      () => true,
      () => false,
    );
  await waitForProcess(layout, "multus", answers, 60_000);
}

/** A kubeconfig, and where Multus would keep a certificate that it had the cluster sign: ours is valid for years. */
async function writeCredentials({ pkiDir, name }: Layout, node: NodeIdentity, directory: string): Promise<void> {
  const user = multusCertificate(node).file;
  await writeKubeconfig(join(directory, "kubeconfig"), { pkiDir, user, server: apiServerUrl, cluster: name });
  const part = (extension: string) => readFile(join(pkiDir, `${user}.${extension}`), "utf8");
  await writeAtomic(join(directory, certificateFile), `${await part("crt")}\n${await part("key")}`);
}

/** https://github.com/k8snetworkplumbingwg/multus-cni/blob/master/docs/thick-plugin.md */
export function renderMultusConfig(layout: Layout, directory: string): string {
  return JSON.stringify({
    cniVersion: "1.0.0",
    logLevel: "verbose",
    logToStderr: true,
    binDir: nodePaths.cniAdminBinDir,
    cniConfigDir: nodePaths.cniConfigDir,
    multusAutoconfigDir: nodePaths.cniConfigDir,
    multusConfigFile: "auto",
    socketDir: socketDirectory(layout),
    daemonSocketDir: socketDirectory(layout),
    perNodeCertificate: {
      enabled: true,
      bootstrapKubeconfig: join(directory, "kubeconfig"),
      certDir: directory,
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
