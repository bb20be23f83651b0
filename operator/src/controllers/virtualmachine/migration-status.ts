import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { Pod } from "../../runtime/wire.ts";
import { isOver, isUnderWay, type StoredMigration } from "../virtualmachinemigration/stored.ts";
import { annotations } from "./names.ts";

type Migration = NonNullable<VirtualMachineStatus["migration"]>;
type LastMigration = NonNullable<VirtualMachineStatus["lastMigration"]>;
type End = NonNullable<Migration["source"]>;

/** What the status of a machine says about its migrations. */
export interface MigrationView {
  readonly underWay: Migration | undefined;
  readonly last: LastMigration | undefined;
}

/** `before` outlasts the objects, which are collected; `pod` is the one that the machine is in. */
export function migrationView(
  migrations: readonly StoredMigration[],
  before: VirtualMachineStatus | undefined,
  pod: Pod | undefined,
): MigrationView {
  const current = migrations.find(isUnderWay);
  const ended = migrations.filter((each) => isOver(each) && each.status?.startedAt !== undefined).map(lastOf);
  const known = before?.lastMigration === undefined ? ended : [before.lastMigration, ...ended];
  const unseen = withoutObject(pod, migrations, before);
  const isKnown = known.some((each) => each.name === unseen?.name && each.target?.podName === unseen?.target?.podName);
  const all = unseen === undefined || isKnown ? known : [unseen, ...known];
  // Times are RFC 3339 in UTC, which sort as text.
  const last = all.toSorted((a, b) => ((a.completedAt ?? "") < (b.completedAt ?? "") ? -1 : 1)).at(-1);
  return { underWay: current && underWayOf(current), last };
}

/** What brought the machine into its pod, by that pod's marks, where the object went before it was seen to be over. */
function withoutObject(
  pod: Pod | undefined,
  migrations: readonly StoredMigration[],
  before: VirtualMachineStatus | undefined,
): LastMigration | undefined {
  const marks = pod?.metadata?.annotations ?? {};
  const { [annotations.migrationName]: name, [annotations.tookOver]: completedAt } = marks;
  if (name === undefined || completedAt === undefined) return undefined;
  if (migrations.some(({ metadata }) => metadata.uid === marks[annotations.migration])) return undefined;
  const source = before?.migration?.name === name ? before.migration.source : undefined;
  return {
    name,
    phase: "Succeeded",
    message: "The machine has moved; the VirtualMachineMigration was deleted",
    ...(source && { source }),
    target: common({ node: pod?.spec?.nodeName, podName: pod?.metadata?.name }),
    completedAt,
  };
}

function underWayOf({ metadata, status }: StoredMigration): Migration {
  return { ...common({ name: metadata.name, phase: status?.phase, startedAt: status?.startedAt }), ...endsOf(status) };
}

function lastOf({ metadata, status }: StoredMigration): LastMigration {
  const message = status?.conditions?.find(({ type }) => type === "Ready")?.message;
  const downtimeMilliseconds = status?.result?.downtimeMilliseconds;
  const { name } = metadata;
  return {
    ...common({ name, phase: status?.phase, message, completedAt: status?.completedAt }),
    ...endsOf(status),
    ...(downtimeMilliseconds === undefined ? {} : { downtimeMilliseconds }),
  };
}

function endsOf(status: StoredMigration["status"]): { readonly source?: End; readonly target?: End } {
  const end = (which: "source" | "target") => {
    const found = status?.[which];
    return found === undefined ? {} : { [which]: common({ node: found.node, podName: found.podName }) };
  };
  return { ...end("source"), ...end("target") };
}

/** The members that have a value. */
function common<Key extends string>(members: Readonly<Record<Key, string | undefined>>): { [Name in Key]?: string } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [Name in Key]?: string;
  };
}
