import { createHash } from "node:crypto";
import { join } from "node:path";
import { stringify } from "yaml";
import { apiServerUrl, kubectl } from "../control-plane.ts";
import { writeKubeconfig } from "../kubeconfig.ts";
import type { Layout } from "../layout.ts";
import { netnsFile } from "../network.ts";
import { nodePaths } from "../node-config.ts";
import { volumeImage } from "../node-images/images.ts";
import { ensureProcess } from "../processes.ts";
import { writeAtomic } from "../state.ts";
import type { Tools } from "../tools/tools.ts";

export interface LocalPathOptions {
  readonly tools: Tools;
  readonly cgroupProcs: readonly string[];
}

/** Holder of the client certificate, and user of the roles below. */
export const localPathUser = "local-path-provisioner";
const namespace = "local-path-storage";
const provisioner = "rancher.io/local-path";
const manifestHash = "typevisor.io/manifest-hash";

/**
 * The default StorageClass: directories on the node of the first pod, by rancher's local-path-provisioner, which runs
 * beside the control plane and sends a pod to the node for each volume.
 */
export async function ensureLocalPath(layout: Layout, options: LocalPathOptions): Promise<void> {
  const { tools, cgroupProcs } = options;
  const kubeconfig = join(layout.stateDir, `${localPathUser}.kubeconfig`);
  const cluster = layout.name;
  await writeKubeconfig(kubeconfig, { pkiDir: layout.pkiDir, user: localPathUser, server: apiServerUrl, cluster });
  const helperPod = join(layout.stateDir, "volume-pod.yaml");
  await writeAtomic(helperPod, stringify(volumePod));
  await applyObjects(layout, tools);
  await ensureProcess(layout, {
    name: "local-path-provisioner",
    netns: netnsFile(layout),
    cgroupProcs,
    argv: [
      ...[join(tools.localPath, "local-path-provisioner"), "start", `--kubeconfig=${kubeconfig}`],
      ...[`--provisioner-name=${provisioner}`, `--namespace=${namespace}`, `--config=${JSON.stringify(config)}`],
      ...[`--helper-pod-file=${helperPod}`, `--helper-image=${volumeImage}`, "--service-account-name=default"],
    ],
  });
}

const config = {
  nodePathMap: [{ node: "DEFAULT_PATH_FOR_NON_LISTED_NODES", paths: [nodePaths.localVolumes] }],
  // A program of the image, called with -p PATH -s BYTES -m MODE -a create|delete.
  setupCommand: "/volume",
  teardownCommand: "/volume",
};

const volumePod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "volume" },
  spec: {
    priorityClassName: "system-node-critical",
    automountServiceAccountToken: false,
    containers: [{ name: "helper-pod", image: volumeImage, imagePullPolicy: "Never" }],
  },
};

/** Nothing is sent where the cluster has these objects already: `up` is to be quick. */
async function applyObjects(layout: Layout, tools: Tools): Promise<void> {
  const hash = createHash("sha256")
    .update(JSON.stringify([...objects, storageClass]))
    .digest("hex")
    .slice(0, 12);
  const column = `-o=jsonpath={.metadata.annotations.${manifestHash.replaceAll(".", "\\.")}}`;
  const present = await kubectl(layout, tools, ["get", "storageclass", "local-path", "--ignore-not-found", column]);
  if (present === hash) return;
  const { metadata } = storageClass;
  const annotations = { ...metadata.annotations, [manifestHash]: hash };
  const marked = { ...storageClass, metadata: { ...metadata, annotations } };
  const list = { apiVersion: "v1", kind: "List", items: [...objects, marked] };
  await kubectl(layout, tools, ["apply", "-f", "-"], JSON.stringify(list));
}

/** Last, since its mark says that all others are there. */
const storageClass = {
  apiVersion: "storage.k8s.io/v1",
  kind: "StorageClass",
  metadata: {
    name: "local-path",
    annotations: {
      "storageclass.kubernetes.io/is-default-class": "true",
      // hostPath volumes would ignore a pod's fsGroup.
      defaultVolumeType: "local",
    },
  },
  provisioner,
  volumeBindingMode: "WaitForFirstConsumer",
  reclaimPolicy: "Delete",
};

const subject = { kind: "User", name: localPathUser, apiGroup: "rbac.authorization.k8s.io" };
const rule = (apiGroup: string, resources: readonly string[], verbs: readonly string[]) => ({
  apiGroups: [apiGroup],
  resources,
  verbs,
});
const watching = ["get", "list", "watch"];
const writing = [...watching, "create", "patch", "update", "delete"];

const objects = [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "Role",
    metadata: { name: localPathUser, namespace },
    rules: [rule("", ["pods"], writing)],
  },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    metadata: { name: localPathUser },
    rules: [
      rule("", ["nodes", "persistentvolumeclaims", "configmaps", "pods", "pods/log"], watching),
      rule("", ["persistentvolumes"], writing),
      rule("", ["events"], ["create", "patch", "update"]),
      rule("storage.k8s.io", ["storageclasses"], watching),
    ],
  },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    metadata: { name: localPathUser, namespace },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: localPathUser },
    subjects: [subject],
  },
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: localPathUser },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: localPathUser },
    subjects: [subject],
  },
];
