import type { Condition } from "../../../../crds/src/condition.ts";
import type { Disk } from "../../../../crds/src/disk.ts";
import { formatBytes, parseQuantity } from "../../../../crds/src/quantity.ts";
import type { Reason } from "../../../../crds/src/reasons.ts";
import type { Phase, VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import { type ConditionDraft, settleConditions } from "../../runtime/conditions.ts";
import { type ClaimFacts, type Claims, claimNameOf } from "./claims.ts";
import { changedInterfaces, LAUNCHER_IMAGE } from "./drift.ts";
import type { MigrationView } from "./migration-status.ts";
import type { MovedDisk } from "./moved-disks.ts";
import type { ClaimRefusal } from "./observation.ts";
import { overheadBytes } from "./overhead.ts";
import type { Settings } from "./settings.ts";

/** How a machine stands, from which its conditions follow. */
export interface View {
  readonly reason: Reason;
  readonly message: string;
  /** The machine does what its spec asks. */
  readonly ready: "True" | "False" | "Unknown";
  /** It exists on a node, running or paused. */
  readonly running: "True" | "False" | "Unknown";
  readonly paused?: boolean;
  /** "reconciling": something is under way; "stalled": only a change by someone helps. */
  readonly progress: "done" | "reconciling" | "stalled";
}

/** What a status holds beside conditions and what follows from the spec. */
export type StatusRecord = Omit<
  VirtualMachineStatus,
  | "observedGeneration"
  | "phase"
  | "conditions"
  | "overhead"
  | "volumes"
  | "movedDisks"
  | "interfaces"
  | "migration"
  | "lastMigration"
>;

/** The whole status of a machine that stands as `view` says. */
export function buildStatus(
  vm: VirtualMachine,
  parts: {
    readonly view: View;
    readonly record: StatusRecord;
    /** Fields that take effect at the next restart. */
    readonly drift: readonly string[];
    /** By interface: why the running machine does not get it. */
    readonly stuck: Readonly<Record<string, string>>;
    readonly settings: Settings;
    readonly volumes: VolumeFacts;
    /** What a disk or interface that comes or goes waits for. */
    readonly device: { readonly reason: Reason; readonly message: string } | undefined;
    readonly interfaces: NonNullable<VirtualMachineStatus["interfaces"]>;
    readonly migratable: ConditionDraft<Condition>;
    readonly migration: MigrationView;
    readonly movedDisks: readonly MovedDisk[];
    readonly nowMs: number;
  },
): VirtualMachineStatus {
  const generation = vm.metadata.generation ?? 0;
  const drafts = conditionDrafts(parts);
  const conditions = settleConditions<Condition>(vm.status?.conditions, drafts, generation, parts.nowMs);
  return {
    observedGeneration: generation,
    phase: phaseOf(conditions),
    conditions,
    ...parts.record,
    interfaces: parts.interfaces,
    volumes: volumesOf(vm, parts.volumes, parts.movedDisks),
    ...(parts.movedDisks.length === 0 ? {} : { movedDisks: [...parts.movedDisks] }),
    overhead: { memory: formatBytes(overheadBytes(vm.spec, parts.settings)) },
    ...(parts.migration.underWay && { migration: parts.migration.underWay }),
    ...(parts.migration.last && { lastMigration: parts.migration.last }),
  };
}

export type VolumeState = NonNullable<NonNullable<VirtualMachineStatus["volumes"]>[number]["state"]>;

/** What is known of a machine's disks. */
export interface VolumeFacts {
  readonly claims: Claims;
  readonly claimRefusals: Readonly<Record<string, ClaimRefusal>>;
  /** Bytes that the guest of this run sees, by disk. */
  readonly seenBytes: Readonly<Record<string, number | string | undefined>>;
  /** By disk: how it stands with the guest of this run, and what it waits for. */
  readonly states: Readonly<Record<string, { readonly state?: VolumeState; readonly message?: string }>>;
  /** Disks that the guest is to give up, and that spec.disks has no more. */
  readonly leaving: readonly string[];
}

function volumesOf(
  vm: VirtualMachine,
  { claims, claimRefusals, seenBytes, states, leaving }: VolumeFacts,
  movedDisks: readonly MovedDisk[],
): NonNullable<VirtualMachineStatus["volumes"]> {
  const ofSpec = vm.spec.disks.map((disk) => {
    const { name, readOnly: _, ...source } = disk;
    const claimName = claimNameOf(disk, vm.metadata.name ?? "");
    const claim = claimName === undefined ? undefined : claims[claimName];
    const capacity = claim?.capacityBytes === undefined ? undefined : formatBytes(claim.capacityBytes);
    const refusal = claimName === undefined ? undefined : claimRefusals[claimName];
    const size = seenBytes[name] ?? capacity ?? disk.emptyDisk?.size;
    return {
      name,
      source: Object.keys(source)[0] ?? "",
      ...(claimName === undefined ? {} : { claimName, phase: claim?.phase ?? "Missing" }),
      ...(claim === undefined ? {} : { volumeMode: claim.mode }),
      ...(size === undefined ? {} : { size: typeof size === "number" ? formatBytes(size) : size }),
      ...sizeMessage(vm, disk, claim, size),
      ...movedMessage(movedDisks, name, claimName),
      ...(refusal === undefined ? {} : { message: refusal.message }),
      ...states[name],
    };
  });
  return [...ofSpec, ...leaving.map((name) => ({ name, ...states[name] }))];
}

/** Where a claim is not as large as its template or the disk on it: it was made or filled by somebody else. */
function sizeMessage(vm: VirtualMachine, disk: Disk, claim: ClaimFacts | undefined, size: string | number | undefined) {
  const capacityBytes = claim?.capacityBytes;
  if (claim === undefined || capacityBytes === undefined) return {};
  const subject = `PersistentVolumeClaim ${claim.name} has ${formatBytes(capacityBytes)}`;
  // A device may be larger than what was asked for.
  if (size !== undefined && claim.mode === "Filesystem" && parseQuantity(size) > capacityBytes) {
    const seen = formatBytes(parseQuantity(size));
    return {
      message: `${subject}, and the guest's disk ${seen}: it is paused where that does not fit; raise requests.storage of the claim`,
    };
  }
  const template = vm.spec.volumeClaimTemplates?.find(
    ({ metadata }) => metadata.name === disk.volumeClaimTemplate?.name,
  );
  const wanted = template?.spec.resources.requests.storage;
  // One that the machine has made grows by itself.
  if (wanted === undefined || claim.vmName === vm.metadata.name || parseQuantity(wanted) <= capacityBytes) return {};
  return {
    message: `${subject}, and spec.volumeClaimTemplates asks for ${wanted}: it was not made for this machine and is used as it is; raise its requests.storage`,
  };
}

/** `vm` has its disks where they are, so what the spec as it is written names comes from the record. */
function movedMessage(movedDisks: readonly MovedDisk[], name: string, claimName: string | undefined) {
  const moved = movedDisks.find((each) => each.name === name);
  if (moved === undefined || moved.claimName !== claimName) return {};
  const { specClaimName, nextClaimName } = moved;
  if (nextClaimName !== undefined)
    return { message: `A migration copies it to claim ${nextClaimName}, or has done so` };
  return { message: `A migration moved it here from claim ${specClaimName}; spec.disks may name either` };
}

function conditionDrafts({
  view,
  drift,
  record,
  stuck,
  device,
  migratable,
  migration,
}: Pick<
  Parameters<typeof buildStatus>[1],
  "view" | "drift" | "record" | "stuck" | "device" | "migratable" | "migration"
>): ConditionDraft<Condition>[] {
  const { reason, message } = view;
  const asExpected = { status: "False", reason: "AsExpected", message: "" } as const;
  // A machine that runs is ready, whatever device is still to come.
  const reconciling =
    view.progress === "done" && device !== undefined ? ({ status: "True", ...device } as const) : asExpected;
  const cause = { status: "True", reason, message } as const;
  const runningReason = view.running === "True" && view.ready === "True" && view.paused !== true ? "Running" : reason;
  return [
    { type: "Ready", status: view.ready, reason, message },
    { type: "Reconciling", ...(view.progress === "reconciling" ? cause : reconciling) },
    { type: "Stalled", ...(view.progress === "stalled" ? cause : asExpected) },
    { type: "Running", status: view.running, reason: runningReason, message },
    {
      type: "Paused",
      ...(view.paused === true
        ? ({ ...cause, reason: reason === "StorageFull" ? reason : "Paused" } as const)
        : asExpected),
    },
    migratable,
    { type: "Migrating", ...(migration.underWay === undefined ? asExpected : moving(migration.underWay)) },
    {
      type: "RestartRequired",
      ...(drift.length === 0 ? asExpected : restartRequired(drift, { stuck, launcherVersion: record.launcherVersion })),
    },
  ];
}

/** A machine is never restarted because the operator was upgraded, nor is that its owner's doing. */
function restartRequired(
  drift: readonly string[],
  {
    stuck,
    launcherVersion,
  }: { readonly stuck: Readonly<Record<string, string>>; readonly launcherVersion: string | undefined },
) {
  if (drift.every((field) => field === LAUNCHER_IMAGE)) {
    const version = launcherVersion === undefined ? "" : ` (version ${launcherVersion})`;
    const message = `The machine goes on in the launcher that it was started in${version}; one started now gets another. Move it, where it can (kubectl vm migrate), or restart it, when it suits`;
    return { status: "True", reason: "LauncherOutdated", message } as const;
  }
  const message = `Changed since the machine was started: ${listed(drift)}. Delete its pod to restart it${aboutInterfaces(drift, stuck)}`;
  return { status: "True", reason: "SpecChanged", message } as const;
}

function moving({ name, source, target }: NonNullable<VirtualMachineStatus["migration"]>) {
  const to = target?.node === undefined ? "" : ` to node ${target.node}`;
  const message = `VirtualMachineMigration ${name} moves the machine from node ${source?.node}${to}`;
  return { status: "True", reason: "Migrating", message } as const;
}

/** Somebody who has seen disks and interfaces come to running machines may wait for these, too. */
function aboutInterfaces(drift: readonly string[], stuck: Readonly<Record<string, string>>): string {
  const names = changedInterfaces(drift);
  const others = names.filter((name) => !Object.hasOwn(stuck, name));
  const sentences = names.flatMap((name) => (Object.hasOwn(stuck, name) ? [`interface ${name}: ${stuck[name]}`] : []));
  if (others.length > 0) {
    const [what, come] = others.length === 1 ? ["interface", "comes or goes"] : ["interfaces", "come or go"];
    const why = "only multus interfaces come to a running machine, and go if they came so";
    sentences.unshift(`${what} ${listed(others)} ${come} with a restart alone, since ${why}`);
  }
  return sentences.length === 0 ? "" : `: ${sentences.join("; ")}`;
}

const FIELDS_SHOWN = 20;

function listed(fields: readonly string[]): string {
  const more = fields.length - FIELDS_SHOWN;
  return fields.slice(0, FIELDS_SHOWN).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

const phasesByReason: Partial<Record<Reason, Phase>> = {
  Deleting: "Terminating",
  Stopping: "Stopping",
  PodDeleted: "Stopping",
  Starting: "Starting",
  LauncherUnreachable: "Starting",
  LauncherNotReady: "Starting",
  Halted: "Stopped",
  Completed: "Stopped",
  CrashBackOff: "CrashBackOff",
};

/** The summary that follows from the conditions. */
export function phaseOf(conditions: readonly Condition[]): Phase {
  const find = (type: Condition["type"]) => conditions.find((condition) => condition.type === type);
  const ready = find("Ready");
  const running = find("Running")?.status;
  const byReason = ready === undefined ? undefined : phasesByReason[ready.reason];
  if (byReason === "Terminating" || running === "Unknown") {
    return byReason === "Terminating" ? byReason : "Unknown";
  }
  if (find("Stalled")?.status === "True") {
    return "Failed";
  }
  if (running === "True" && byReason !== "Stopping") {
    if (find("Migrating")?.status === "True") return "Migrating";
    return find("Paused")?.status === "True" ? "Paused" : "Running";
  }
  return byReason ?? "Pending";
}

/** True when writing `next` over `previous` would change nothing of ours. */
export function sameStatus(previous: VirtualMachineStatus | undefined, next: VirtualMachineStatus): boolean {
  return canonical(previous ?? {}) === canonical(next);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    typeof item === "object" && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}
