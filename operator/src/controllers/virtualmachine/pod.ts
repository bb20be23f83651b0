import { MULTUS_NETWORKS_ANNOTATION } from "../../../../crds/src/interface.ts";
import { GROUP_VERSION } from "../../../../crds/src/names.ts";
import { formatBytes, parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import { KVM_RESOURCE } from "../../../../launcher/api/agent.ts";
import { launcherSeccompName } from "../../launcher-seccomp/profile.ts";
import type { OwnerReference, Pod } from "../../runtime/wire.ts";
import type { Claims } from "./claims.ts";
import { allDiskParts, type Volume, type VolumeDevice, type VolumeMount } from "./disk-parts.ts";
import { fieldDigests } from "./drift.ts";
import { podProbes } from "./guest-probes.ts";
import { guestPorts, launcherPorts, multusNetworks } from "./interfaces.ts";
import { labelKeysAnnotation, podLabels } from "./labels.ts";
import { annotations, identityOf, LAUNCHER_CONTAINER, paths, podNameOf, secretNameOf } from "./names.ts";
import { resourcesOf } from "./overhead.ts";
import { bytesOnVolume, OVERLAY_VOLUME, overlayDirectoryLimit } from "./overlay-limits.ts";
import type { Settings } from "./settings.ts";

type PodSpec = NonNullable<Pod["spec"]>;
type Toleration = NonNullable<PodSpec["tolerations"]>[number];

/** What a pod is made from besides the VirtualMachine. */
export interface PodInputs {
  readonly settings: Settings;
  readonly restarts: number;
  /** RFC 3339. */
  readonly certificateRenewAt: string;
  readonly trustId: string;
  /** Those that the machine's disks are on. */
  readonly claims: Claims;
}

/** User and group of the launcher in its container. */
const LAUNCHER_UID = 10001;
/** Group of the disks in KubeVirt's containerDisks (107:107), which may be readable for it alone, and work unchanged. */
const CONTAINER_DISK_GID = 107;
/** What the launcher needs beyond the guest's grace period to switch off and say its last word. */
export const SHUTDOWN_MARGIN_SECONDS = 10;
/** How long a node may be silent before its pods are deleted: nothing starts elsewhere before. */
const NODE_SILENCE_SECONDS = 30;

/** What Pod Security "restricted" asks, and disks that a pod of the launcher's user shares with others of its kind. */
export const podSecurity = {
  runAsNonRoot: true,
  runAsUser: LAUNCHER_UID,
  runAsGroup: LAUNCHER_UID,
  fsGroup: LAUNCHER_UID,
  fsGroupChangePolicy: "OnRootMismatch",
  seccompProfile: { type: "RuntimeDefault" },
} as const;

export const containerSecurity = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  readOnlyRootFilesystem: true,
};

/** The launcher pod of a VirtualMachine. */
export function launcherPod(vm: VirtualMachine, inputs: PodInputs): Pod {
  const { name, namespace } = identityOf(vm);
  const { settings } = inputs;
  const template = vm.spec.template;
  const labels = podLabels(vm);
  const networks = multusNetworks(vm);
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: podNameOf(name),
      namespace,
      labels,
      annotations: {
        "kubectl.kubernetes.io/default-container": LAUNCHER_CONTAINER,
        ...(settings.scrapeAnnotations === true && {
          "prometheus.io/scrape": "true",
          "prometheus.io/port": String(settings.telemetryPort),
          "prometheus.io/path": "/metrics",
        }),
        ...template?.metadata?.annotations,
        ...(networks.length === 0 ? {} : { [MULTUS_NETWORKS_ANNOTATION]: JSON.stringify(networks) }),
        [annotations.startedWith]: JSON.stringify(fieldDigests(vm.spec, settings)),
        [annotations.restarts]: String(inputs.restarts),
        [annotations.certificateRenewAt]: inputs.certificateRenewAt,
        [annotations.trust]: inputs.trustId,
        ...labelKeysAnnotation(labels),
      },
      ownerReferences: [ownerReferenceTo(vm)],
    },
    spec: podSpec(vm, inputs),
  };
}

/** Controller reference to a VirtualMachine. */
export function ownerReferenceTo(vm: VirtualMachine): OwnerReference {
  const { name, uid } = identityOf(vm);
  return {
    apiVersion: GROUP_VERSION,
    kind: "VirtualMachine",
    name,
    uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}

function podSpec(vm: VirtualMachine, { settings, claims }: PodInputs): PodSpec {
  const storage = storageOf(vm, settings, claims);
  const { name } = identityOf(vm);
  const given = vm.spec.template?.spec;
  const { resources: _resources, hostname, tolerations, imagePullSecrets, ...placement } = given ?? {};
  const priorityClassName = given?.priorityClassName ?? settings.priorityClassName;
  const pullSecrets = [
    ...(imagePullSecrets ?? []),
    ...settings.launcherImagePullSecrets.map((secret) => ({ name: secret })),
  ];
  return {
    ...(placement as Partial<PodSpec>),
    hostname: hostname ?? name,
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: vm.spec.terminationGracePeriodSeconds + SHUTDOWN_MARGIN_SECONDS,
    ...(priorityClassName === undefined ? {} : { priorityClassName }),
    ...(pullSecrets.length === 0 ? {} : { imagePullSecrets: pullSecrets }),
    tolerations: [
      ...nodeSilenceTolerations((tolerations ?? []) as Toleration[]),
      ...((tolerations ?? []) as Toleration[]),
    ],
    securityContext: { ...podSecurity, supplementalGroups: [CONTAINER_DISK_GID] },
    containers: [launcherContainer(vm, settings, storage)],
    volumes: storage.volumes,
  };
}

function launcherContainer(vm: VirtualMachine, settings: Settings, storage: PodStorage): PodSpec["containers"][number] {
  const { requests, limits } = resourcesOf(vm.spec, settings);
  return {
    name: LAUNCHER_CONTAINER,
    image: settings.launcherImage,
    imagePullPolicy: settings.launcherImagePullPolicy,
    args: ["run", `${paths.machine}/machine.json`],
    ports: [...launcherPorts(settings), ...guestPorts(vm.spec)],
    resources: {
      requests: { ...requests, [KVM_RESOURCE]: "1" },
      limits: { ...limits, [KVM_RESOURCE]: "1" },
    },
    securityContext: {
      ...containerSecurity,
      ...(settings.launcherSeccomp === "Localhost" && {
        seccompProfile: { type: "Localhost", localhostProfile: launcherSeccompName() },
      }),
    },
    ...podProbes(vm.spec),
    terminationMessagePath: paths.terminationMessage,
    terminationMessagePolicy: "FallbackToLogsOnError",
    volumeMounts: storage.mounts,
    ...(storage.devices.length === 0 ? {} : { volumeDevices: storage.devices }),
  };
}

interface PodStorage {
  readonly volumes: Volume[];
  readonly mounts: VolumeMount[];
  readonly devices: VolumeDevice[];
}

function storageOf(vm: VirtualMachine, settings: Settings, claims: Claims): PodStorage {
  const kernel = vm.spec.boot?.kernel;
  const disks = allDiskParts(vm, claims);
  const scratch = scratchOf(vm, settings);
  return {
    volumes: [
      { name: "machine", secret: { secretName: secretNameOf(identityOf(vm)), defaultMode: 0o440 } },
      { name: "run", emptyDir: {} },
      ...(kernel === undefined ? [] : [{ name: "boot-image", image: kernel.image }]),
      ...disks.flatMap((disk) => disk.volumes),
      ...scratch.map(({ name, emptyDir }) => ({ name, emptyDir })),
    ],
    mounts: [
      { name: "machine", mountPath: paths.machine, readOnly: true },
      { name: "run", mountPath: paths.run },
      ...(kernel === undefined ? [] : [{ name: "boot-image", mountPath: paths.bootImage, readOnly: true }]),
      ...disks.flatMap((disk) => disk.mounts),
      ...scratch.map(({ name, mountPath }) => ({ name, mountPath })),
    ],
    devices: disks.flatMap((disk) => disk.devices),
  };
}

/** Directories on the node for what guests write and nobody keeps. */
function scratchOf(vm: VirtualMachine, settings: Settings) {
  const images = vm.spec.disks.filter((disk) => disk.image !== undefined);
  const sizes = vm.spec.disks.flatMap(({ emptyDisk }) =>
    emptyDisk === undefined ? [] : parseQuantity(emptyDisk.size),
  );
  const bytes = sizes.reduce((sum, size) => sum + bytesOnVolume(size), 0);
  // Disks cannot outgrow it: the limit is for a launcher that its guest has taken over.
  const sizeLimit = formatBytes(Math.ceil(bytes / 2 ** 20) * 2 ** 20);
  const overlays = { sizeLimit: overlayDirectoryLimit(images, settings) };
  return [
    ...(images.length === 0 ? [] : [{ name: OVERLAY_VOLUME, mountPath: paths.overlay, emptyDir: overlays }]),
    ...(sizes.length === 0 ? [] : [{ name: "empty-disks", mountPath: paths.empty, emptyDir: { sizeLimit } }]),
  ];
}

/** Tolerations for silent nodes, unless the template has its own. */
function nodeSilenceTolerations(given: readonly Toleration[]): Toleration[] {
  return ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
    .filter((key) => !given.some((toleration) => toleration.key === key))
    .map((key) => ({
      key,
      operator: "Exists",
      effect: "NoExecute",
      tolerationSeconds: NODE_SILENCE_SECONDS,
    }));
}
