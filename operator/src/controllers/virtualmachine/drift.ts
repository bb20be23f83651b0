import { createHash } from "node:crypto";
import type { NetworkInterface } from "../../../../crds/src/interface.ts";
import type { VirtualMachine, VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { Pod } from "../../runtime/wire.ts";
import { hotDisks } from "./attachments.ts";
import { interfacesOf } from "./interfaces.ts";
import { annotations } from "./names.ts";
import { disksBeyondPod } from "./overlay-limits.ts";
import type { Settings } from "./settings.ts";

/** Fields of the spec that act on a running machine, or on none. */
const LIVE_FIELDS = new Set([
  "runStrategy",
  "paused",
  "evictionStrategy",
  "volumeClaimTemplates",
  "persistentVolumeClaimRetentionPolicy",
]);

/** Fields deeper down that were once told of, or may be, and act on a running machine: of pods that told of them as well. */
const LIVE_PATHS = [/^spec\.disks\[[^\]]+\]\.image\.overlaySizeLimit$/, /^spec\.interfaces\[[^\]]+\]\.state$/];

/** Stands for the launcher's image among the fields. */
export const LAUNCHER_IMAGE = "launcher image";

/** A digest per field that a pod is made from. Digests, since annotations are for everyone's eyes, and specs are long. */
export type FieldDigests = Readonly<Record<string, string>>;

/** Digests of what a pod made now would be made from: a path like `spec.disks[root].image.reference` to a digest. */
export function fieldDigests(spec: VirtualMachineSpec, settings: Settings): FieldDigests {
  const found: Record<string, string> = { [LAUNCHER_IMAGE]: digest(settings.launcherImage) };
  collectSpec(spec, found);
  return found;
}

function collectSpec(spec: VirtualMachineSpec, found: Record<string, string>): void {
  const booted = { ...spec, disks: bootDisks(spec), interfaces: bootInterfaces(spec), template: bootTemplate(spec) };
  for (const [field, value] of Object.entries(booted)) {
    if (!LIVE_FIELDS.has(field)) {
      collect(`spec.${field}`, value, found);
    }
  }
}

/** Disks without what changes while the machine runs. */
function bootDisks({ disks }: VirtualMachineSpec) {
  return disks.map((disk) => {
    if (disk.image === undefined) return disk;
    const { overlaySizeLimit: _, ...image } = disk.image;
    return { ...disk, image };
  });
}

/** Interfaces without what changes while the machine runs. */
function bootInterfaces(spec: VirtualMachineSpec) {
  return interfacesOf(spec).map(({ state: _, ...entry }) => entry);
}

/** The template without what its pod follows while it runs. Nothing in it is the same as none. */
function bootTemplate({ template }: VirtualMachineSpec) {
  const annotations = template?.metadata?.annotations ?? {};
  const spec = template?.spec ?? {};
  const parts = { ...(isEmpty(annotations) ? {} : { metadata: { annotations } }), ...(isEmpty(spec) ? {} : { spec }) };
  return isEmpty(parts) ? undefined : parts;
}

function isEmpty(value: object): boolean {
  return Object.keys(value).length === 0;
}

/** The annotation of a pod that is made as `pod` was, but with the launcher of today, and `moved` disks on other claims. */
export function targetDigests(
  pod: Pod,
  { launcherImage }: Settings,
  moved: readonly { readonly name: string; readonly claimName: string }[],
): { [annotations.startedWith]?: string } {
  const started = parse(pod.metadata?.annotations?.[annotations.startedWith]);
  if (started === undefined) return {};
  const claims: Record<string, string> = {};
  for (const { name, claimName } of moved)
    collect(`spec.disks[${name}]`, { persistentVolumeClaim: { claimName } }, claims);
  const isFormer = (field: string) =>
    moved.some(({ name }) => field.startsWith(`spec.disks[${name}].volumeClaimTemplate.`));
  const kept = Object.entries(started).filter(([field]) => !isFormer(field));
  const digests = { ...Object.fromEntries(kept), ...claims, [LAUNCHER_IMAGE]: digest(launcherImage) };
  return { [annotations.startedWith]: JSON.stringify(digests) };
}

/** A machine of which nothing is said that has a default, as the API server gives it today. */
const UNSAID: VirtualMachineSpec = {
  runStrategy: "Always",
  paused: false,
  cpu: { cores: 1, model: "Host" },
  memory: { size: "" },
  disks: [],
  evictionStrategy: "None",
  terminationGracePeriodSeconds: 120,
};

/**
 * The fields in which a pod differs from what one made now would be; all is well when none. A field that its pod does not
 * know, of a version before this one, is no change while it has its default: nobody wrote it.
 */
export function driftedFields(pod: Pod, current: FieldDigests): string[] {
  const started = parse(pod.metadata?.annotations?.[annotations.startedWith]);
  if (started === undefined) {
    return [];
  }
  const unsaid: Record<string, string> = {};
  collectSpec(UNSAID, unsaid);
  const fields = new Set([...Object.keys(started), ...Object.keys(current)]);
  return [...fields]
    .filter((field) => (started[field] ?? unsaid[field]) !== current[field])
    .filter((field) => !LIVE_PATHS.some((path) => path.test(field)))
    .sort();
}

/** Names of the disks that a pod's machine was started with; undefined where the pod does not tell. */
export function startedDisks(pod: Pod): ReadonlySet<string> | undefined {
  const started = parse(pod.metadata?.annotations?.[annotations.startedWith]);
  if (started === undefined) {
    return undefined;
  }
  return new Set(Object.keys(started).flatMap((field) => DISK_FIELD.exec(field)?.[1] ?? []));
}

/** As startedDisks, of interfaces. */
export function startedInterfaces(pod: Pod): ReadonlySet<string> | undefined {
  const started = parse(pod.metadata?.annotations?.[annotations.startedWith]);
  if (started === undefined) {
    return undefined;
  }
  return new Set(changedInterfaces(Object.keys(started)));
}

/** Interfaces of the spec that a running machine can be given: on networks of Multus, and not there when it was started. */
export function hotInterfaces(spec: VirtualMachineSpec, started: ReadonlySet<string>): NetworkInterface[] {
  return interfacesOf(spec).filter(({ name, multus }) => multus !== undefined && !started.has(name));
}

/**
 * As driftedFields, without what comes to the running machine: disks on claims that it was not started with, and
 * interfaces unless they are `stuck`. With limits of overlays that its pod has no room for.
 */
export function fieldsForRestart(
  pod: Pod,
  vm: VirtualMachine,
  { settings, stuck }: { readonly settings: Settings; readonly stuck: readonly string[] },
): string[] {
  const hot = new Set(hotDisks(vm, startedDisks(pod) ?? new Set()).map(({ disk }) => disk.name));
  const disks = vm.spec.disks.filter((disk) => !hot.has(disk.name));
  const come = hotInterfaces(vm.spec, startedInterfaces(pod) ?? new Set()).filter(({ name }) => !stuck.includes(name));
  const interfaces = interfacesOf(vm.spec).filter((entry) => !come.includes(entry));
  const limits = disksBeyondPod(vm, pod, settings).map((name) => `spec.disks[${name}].image.overlaySizeLimit`);
  return [...driftedFields(pod, fieldDigests({ ...vm.spec, disks, interfaces }, settings)), ...limits];
}

/**
 * Names of interfaces among drifted fields that the machine has and the spec has not, or the other way round: those whose
 * name itself is such a field.
 */
export function changedInterfaces(drift: readonly string[]): string[] {
  return drift.flatMap((field) => INTERFACE_NAME_FIELD.exec(field)?.[1] ?? []);
}

const INTERFACE_NAME_FIELD = /^spec\.interfaces\[([^\]]+)\]\.name$/;
const DISK_FIELD = /^spec\.disks\[([^\]]+)\]\./;

function collect(path: string, value: unknown, found: Record<string, string>): void {
  if (Array.isArray(value)) {
    // The order of disks is PCI order.
    found[`${path}[]`] = digest(value.map(nameOf));
    for (const [index, item] of value.entries()) {
      collect(`${path}[${nameOf(item, index)}]`, item, found);
    }
  } else if (typeof value === "object" && value !== null && Object.keys(value).length > 0) {
    for (const [key, item] of Object.entries(value)) {
      collect(`${path}.${key}`, item, found);
    }
  } else if (value !== undefined) {
    found[path] = digest(value);
  }
}

function nameOf(item: unknown, index: number): string {
  const name = typeof item === "object" && item !== null && "name" in item ? item.name : undefined;
  return typeof name === "string" ? name : String(index);
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 10);
}

function parse(text: string | undefined): FieldDigests | undefined {
  try {
    const parsed: unknown = JSON.parse(text ?? "");
    return typeof parsed === "object" && parsed !== null ? (parsed as FieldDigests) : undefined;
  } catch {
    // Somebody's hand was in it: nothing can be said, so nothing is claimed.
    return undefined;
  }
}
