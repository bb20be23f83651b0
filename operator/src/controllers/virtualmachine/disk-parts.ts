import type { Disk } from "../../../../crds/src/disk.ts";
import { parseQuantity } from "../../../../crds/src/quantity.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import type { DiskSource } from "../../../../launcher/api/machine-config.ts";
import type { Pod } from "../../runtime/wire.ts";
import { type Claims, claimNameOf, diskBytes, volumeNameOf } from "./claims.ts";
import { identityOf, paths } from "./names.ts";
import { generatedNetworkData } from "./network-data.ts";
import { SpecError } from "./spec-error.ts";

type PodSpec = NonNullable<Pod["spec"]>;
export type Volume = NonNullable<PodSpec["volumes"]>[number];
type Container = PodSpec["containers"][number];
export type VolumeMount = NonNullable<Container["volumeMounts"]>[number];
export type VolumeDevice = NonNullable<Container["volumeDevices"]>[number];

/** All that one disk comes to: what the launcher is told, and what the pod and the machine's Secret hold for it. */
export interface DiskParts {
  readonly source: DiskSource;
  readonly readOnly: boolean;
  readonly volumes: readonly Volume[];
  readonly mounts: readonly VolumeMount[];
  readonly devices: readonly VolumeDevice[];
  /** Keys of the machine's Secret, in plain text. */
  readonly secretData: Readonly<Record<string, string>>;
}

const nothing = { volumes: [], mounts: [], devices: [], secretData: {} } as const;

/** The parts of a machine's disks, in their order. Throws SpecError. */
export function allDiskParts(vm: VirtualMachine, claims: Claims): DiskParts[] {
  return vm.spec.disks.map((disk) => diskParts(disk, vm, claims));
}

/** The parts of one disk. Throws SpecError. */
export function diskParts(disk: Disk, vm: VirtualMachine, claims: Claims): DiskParts {
  if (disk.image !== undefined) return imageParts(disk, disk.image);
  const claimName = claimNameOf(disk, identityOf(vm).name);
  if (claimName !== undefined) return claimParts(disk, claimName, claims);
  if (disk.emptyDisk !== undefined) return emptyParts(disk, disk.emptyDisk.size);
  if (disk.cloudInit !== undefined) return cloudInitParts(disk, disk.cloudInit, vm);
  if (disk.configMap !== undefined) return filesParts(disk, { configMap: { name: disk.configMap.name } });
  if (disk.secret !== undefined)
    return filesParts(disk, { secret: { secretName: disk.secret.secretName, defaultMode: FILE_MODE } });
  throw new SpecError(`spec.disks[${disk.name}]`, "has a source that this version does not know");
}

/** Readable by the launcher through the pod's fsGroup. */
const FILE_MODE = 0o440;

function imageParts(disk: Disk, image: NonNullable<Disk["image"]>): DiskParts {
  const { reference, pullPolicy } = image;
  return {
    ...nothing,
    readOnly: disk.readOnly,
    source: {
      kind: "image",
      imageRoot: mountPathOf(disk.name),
      ...(image.path === undefined ? {} : { path: image.path }),
      overlayPath: `${paths.overlay}/${disk.name}.overlay`,
    },
    volumes: [
      { name: volumeNameOf(disk.name), image: { reference, ...(pullPolicy === undefined ? {} : { pullPolicy }) } },
    ],
    mounts: [{ name: volumeNameOf(disk.name), mountPath: mountPathOf(disk.name), readOnly: true }],
  };
}

function claimParts(disk: Disk, claimName: string, claims: Claims): DiskParts {
  const claim = claims[claimName];
  if (claim === undefined) {
    throw new SpecError(`spec.disks[${disk.name}]`, `names PersistentVolumeClaim ${claimName}, which does not exist`);
  }
  const name = volumeNameOf(disk.name);
  const readOnly = disk.readOnly ? { readOnly: true } : {};
  const volumes = [{ name, persistentVolumeClaim: { claimName, ...readOnly } }];
  if (claim.mode === "Block") {
    const path = devicePathOf(disk.name);
    const devices = [{ name, devicePath: path }];
    return { ...nothing, readOnly: disk.readOnly, source: { kind: "raw", path }, volumes, devices };
  }
  const path = mountPathOf(disk.name);
  const sizeBytes = diskBytes(claim);
  const mounts = [{ name, mountPath: path, ...readOnly }];
  return { ...nothing, readOnly: disk.readOnly, source: { kind: "directory", path, sizeBytes }, volumes, mounts };
}

function emptyParts(disk: Disk, size: string): DiskParts {
  const source = { kind: "empty", path: `${paths.empty}/${disk.name}.img`, sizeBytes: parseQuantity(size) } as const;
  return { ...nothing, readOnly: false, source };
}

function filesParts(disk: Disk, volumeSource: Omit<Volume, "name">): DiskParts {
  const directory = mountPathOf(disk.name);
  return {
    ...nothing,
    readOnly: true,
    source: { kind: "files", directory, volumeLabel: disk.name },
    volumes: [{ name: volumeNameOf(disk.name), ...volumeSource }],
    mounts: [{ name: volumeNameOf(disk.name), mountPath: directory, readOnly: true }],
  };
}

function cloudInitParts(disk: Disk, seed: NonNullable<Disk["cloudInit"]>, vm: VirtualMachine): DiskParts {
  const user = seedFile(disk, { key: "userdata", file: "user-data" }, seed.userData, seed.userDataSecretRef);
  const network = seedFile(
    disk,
    { key: "networkdata", file: "network-data" },
    seed.networkData ?? (seed.networkDataSecretRef === undefined ? generatedNetworkData(vm) : undefined),
    seed.networkDataSecretRef,
  );
  const sources = [...user.sources, ...network.sources];
  const { name, uid } = identityOf(vm);
  return {
    ...nothing,
    readOnly: true,
    source: {
      kind: "cloudInit",
      ...(user.path === undefined ? {} : { userDataPath: user.path }),
      ...(network.path === undefined ? {} : { networkDataPath: network.path }),
      instanceId: uid,
      localHostname: vm.spec.template?.spec?.hostname ?? name,
    },
    volumes:
      sources.length === 0 ? [] : [{ name: volumeNameOf(disk.name), projected: { defaultMode: FILE_MODE, sources } }],
    mounts:
      sources.length === 0
        ? []
        : [{ name: volumeNameOf(disk.name), mountPath: mountPathOf(disk.name), readOnly: true }],
    secretData: { ...user.secretData, ...network.secretData },
  };
}

/** One file of a seed: from the machine's Secret where it is given inline, else from the user's. */
function seedFile(
  disk: Disk,
  { key, file }: { readonly key: string; readonly file: string },
  inline: string | undefined,
  secret: { readonly name: string } | undefined,
) {
  if (inline !== undefined) {
    const own = `seed-${disk.name}-${file}`;
    return { path: `${paths.machine}/${own}`, sources: [], secretData: { [own]: inline } };
  }
  if (secret === undefined) return { path: undefined, sources: [], secretData: {} };
  const sources = [{ secret: { name: secret.name, items: [{ key, path: file }] } }];
  return { path: `${mountPathOf(disk.name)}/${file}`, sources, secretData: {} };
}

/** Where a disk's volume is in the launcher's container. */
export function mountPathOf(diskName: string): string {
  return `${paths.disks}/${diskName}`;
}

/** Where a disk's block device is there. */
export function devicePathOf(diskName: string): string {
  return `${paths.devices}/${diskName}`;
}
