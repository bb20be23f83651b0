import { MULTUS_NETWORKS_ANNOTATION } from "../../../../crds/src/interface.ts";
import type { Pod } from "../../runtime/wire.ts";
import { type Affinity, type CpuPlacement, requiringOfNode, withCpuAffinity } from "../../scheduling/cpu-affinity.ts";
import { volumeNameOf } from "../virtualmachine/claims.ts";
import { devicePathOf, mountPathOf } from "../virtualmachine/disk-parts.ts";
import { targetDigests } from "../virtualmachine/drift.ts";
import { annotations, LAUNCHER_CONTAINER } from "../virtualmachine/names.ts";
import type { StoredVirtualMachine } from "../virtualmachine/observe.ts";
import type { Settings } from "../virtualmachine/settings.ts";
import type { StoredMigration } from "./stored.ts";

type PodSpec = NonNullable<Pod["spec"]>;
type Container = PodSpec["containers"][number];

/** A disk that is copied to a claim of the target's own. */
export interface CopiedDisk {
  readonly name: string;
  readonly claimName: string;
  /** Of the claim; the disk may have been on one of the other mode. */
  readonly mode: "Block" | "Filesystem";
  /** Of the disk in the running machine. */
  readonly sizeBytes: number;
}

export interface TargetInputs {
  readonly migration: StoredMigration;
  readonly vm: StoredVirtualMachine;
  readonly source: Pod;
  readonly name: string;
  readonly settings: Settings;
  readonly cpu: CpuPlacement;
  readonly copied: readonly CopiedDisk[];
}

/**
 * The pod that a machine moves to: its old one once more, and not what the spec would give by now, since both launchers must
 * have the same machine. Only where it may be scheduled is the spec's as it is, the launcher is today's, and disks that are
 * copied are on other claims.
 */
export function targetPod(inputs: TargetInputs): Pod {
  const { migration, vm, source, name, settings, copied } = inputs;
  const { namespace, labels, ownerReferences, annotations: marks = {}, uid = "" } = source.metadata ?? {};
  const ofTemplate = vm.spec.template?.metadata?.annotations ?? {};
  const kept = Object.entries(marks).filter(([key]) => isOurs(key) || Object.hasOwn(ofTemplate, key));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(labels === undefined ? {} : { labels }),
      annotations: {
        ...Object.fromEntries(kept),
        ...targetDigests(source, settings, copied),
        [annotations.migration]: migration.metadata.uid ?? "",
        [annotations.migrationName]: migration.metadata.name ?? "",
        [annotations.takesOverFrom]: uid,
      },
      ...(ownerReferences === undefined ? {} : { ownerReferences }),
    },
    spec: targetSpec(inputs),
  };
}

/** What others wrote about the old pod (its addresses, say) is not so of the new one. */
function isOurs(key: string): boolean {
  const prefix = key.slice(0, key.indexOf("/"));
  return (PREFIXES.has(prefix) && !OF_ONE_MIGRATION.has(key)) || key === MULTUS_NETWORKS_ANNOTATION;
}

const OF_ONE_MIGRATION: ReadonlySet<string> = new Set([
  annotations.migration,
  annotations.migrationName,
  annotations.takesOverFrom,
  annotations.tookOver,
  annotations.handOver,
  annotations.stays,
]);

const PREFIXES: ReadonlySet<string> = new Set(["typevisor.io", "prometheus.io", "kubectl.kubernetes.io"]);

function targetSpec({ migration, vm, source, settings, cpu, copied }: TargetInputs): PodSpec {
  const {
    // What scheduler, admission and people added.
    nodeName,
    priority: _priority,
    preemptionPolicy: _policy,
    overhead: _overhead,
    ephemeralContainers: _debuggers,
    initContainers: _init,
    affinity: _affinity,
    containers,
    volumes,
    ...kept
  } = source.spec ?? { containers: [] };
  const launcher = containers.find((container) => container.name === LAUNCHER_CONTAINER);
  const affinity = affinityOf({ migration, vm, nodeName, cpu });
  return {
    ...kept,
    ...(affinity === undefined ? {} : { affinity }),
    containers: launcher === undefined ? [] : [targetContainer(launcher, settings, copied)],
    ...(volumes === undefined ? {} : { volumes: volumes.map((volume) => targetVolume(volume, copied)) }),
  };
}

type Volume = NonNullable<PodSpec["volumes"]>[number];

function targetVolume(volume: Volume, copied: readonly CopiedDisk[]): Volume {
  const claimName = copied.find(({ name }) => volumeNameOf(name) === volume.name)?.claimName;
  return claimName === undefined ? volume : { name: volume.name, persistentVolumeClaim: { claimName } };
}

function targetContainer(launcher: Container, settings: Settings, copied: readonly CopiedDisk[]): Container {
  const { volumeMounts: _mounts, volumeDevices: _devices, ...kept } = launcher;
  return {
    ...kept,
    ...targetMounts(launcher, copied),
    image: settings.launcherImage,
    imagePullPolicy: settings.launcherImagePullPolicy,
    args: [
      // One that came here has those of its own coming.
      ...(launcher.args ?? []).filter((arg) => arg !== RECEIVE && !arg.startsWith(COPIED) && !arg.startsWith(MOVED)),
      RECEIVE,
      ...copied.map(({ name, mode, sizeBytes }) => `${COPIED}${name}=${sizeBytes}@${pathOf(name, mode)}`),
      ...movedBefore(launcher, copied),
    ],
    // Nobody asks a guest that is not there yet; the kubelet goes on to the other probes at once when it is.
    startupProbe: { httpGet: { path: "/readyz", port: "telemetry" }, periodSeconds: 1, failureThreshold: NEVER },
  };
}

/** What an earlier migration moved is not where machine.json says: that is of the machine's start. */
function movedBefore({ args = [] }: Container, copied: readonly CopiedDisk[]): string[] {
  return args.flatMap((arg) => {
    const [, what = "", disk = ""] = PLACED.exec(arg) ?? [];
    return disk === "" || copied.some(({ name }) => name === disk) ? [] : [`${MOVED}${what}`];
  });
}

/** A claim is a device or a directory in the container, by its mode. */
function targetMounts({ volumeMounts = [], volumeDevices = [] }: Container, copied: readonly CopiedDisk[]) {
  const isCopied = ({ name }: { readonly name: string }) => copied.some((disk) => volumeNameOf(disk.name) === name);
  const placed = (mode: CopiedDisk["mode"]) => copied.filter((disk) => disk.mode === mode).map(({ name }) => name);
  const mounts = placed("Filesystem").map((name) => ({ name: volumeNameOf(name), mountPath: mountPathOf(name) }));
  const devices = placed("Block").map((name) => ({ name: volumeNameOf(name), devicePath: devicePathOf(name) }));
  const allDevices = [...volumeDevices.filter((device) => !isCopied(device)), ...devices];
  return {
    volumeMounts: [...volumeMounts.filter((mount) => !isCopied(mount)), ...mounts],
    ...(allDevices.length === 0 ? {} : { volumeDevices: allDevices }),
  };
}

function pathOf(disk: string, mode: CopiedDisk["mode"]): string {
  return mode === "Block" ? devicePathOf(disk) : mountPathOf(disk);
}

const RECEIVE = "--receive";
const COPIED = "--copied=";
const MOVED = "--moved=";
const PLACED = /^--(?:copied|moved)=(([^=]+)=\d+@.+)$/;
const NEVER = 2 ** 31 - 1;

function affinityOf({
  migration,
  vm,
  nodeName,
  cpu,
}: Pick<TargetInputs, "migration" | "vm" | "cpu"> & { readonly nodeName: string | undefined }): Affinity | undefined {
  const { nodeName: wanted, nodeSelector = {}, allowSourceNode } = migration.spec.target ?? {};
  let affinity = withCpuAffinity(vm.spec.template?.spec?.affinity as Affinity | undefined, cpu);
  if (allowSourceNode !== true && nodeName !== undefined) {
    affinity = requiringOfNode(affinity, { ...NODE, operator: "NotIn", values: [nodeName] }, "matchFields");
  }
  if (wanted !== undefined) {
    affinity = requiringOfNode(affinity, { ...NODE, operator: "In", values: [wanted] }, "matchFields");
  }
  for (const [key, value] of Object.entries(nodeSelector)) {
    affinity = requiringOfNode(affinity, { key, operator: "In", values: [value] });
  }
  return affinity;
}

const NODE = { key: "metadata.name" } as const;
