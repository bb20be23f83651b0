import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import { isOver, isUnderWay, type StoredMigration } from "../virtualmachinemigration/stored.ts";

type Migration = NonNullable<VirtualMachineStatus["migration"]>;
type LastMigration = NonNullable<VirtualMachineStatus["lastMigration"]>;
type End = NonNullable<Migration["source"]>;

/** What the status of a machine says about its migrations. */
export interface MigrationView {
  readonly underWay: Migration | undefined;
  readonly last: LastMigration | undefined;
}

/** `before` outlasts the objects, which are collected. */
export function migrationView(
  migrations: readonly StoredMigration[],
  before: VirtualMachineStatus | undefined,
): MigrationView {
  const current = migrations.find(isUnderWay);
  const ended = migrations.filter((each) => isOver(each) && each.status?.startedAt !== undefined).map(lastOf);
  const known = before?.lastMigration === undefined ? ended : [before.lastMigration, ...ended];
  // Times are RFC 3339 in UTC, which sort as text.
  const last = known.toSorted((a, b) => ((a.completedAt ?? "") < (b.completedAt ?? "") ? -1 : 1)).at(-1);
  return { underWay: current && underWayOf(current), last };
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
