import {
  finalMigrationPhases,
  type MigrationPriority,
  type VirtualMachineMigration,
  type VirtualMachineMigrationManifest,
} from "../../../crds/src/virtualmachinemigration.ts";
import { virtualMachineMigrations } from "../../../operator/src/controllers/virtualmachinemigration/names.ts";
import type { KubernetesObject } from "../../../operator/src/runtime/wire.ts";
import type { TargetClaim } from "../arguments.ts";
import { type Cluster, FIELD_MANAGER } from "../cluster/cluster.ts";
import { listAll, type Machine, type MachineSelection, orUndefined, selectMachines } from "../cluster/machines.ts";
import { type Environment, say } from "../environment.ts";
import { CliError, exitCodes } from "../exit-codes.ts";
import { awaitMachine, conditionOf } from "./await-machine.ts";

export interface MigrateOptions extends MachineSelection {
  /** Node to move to; the scheduler chooses when absent. */
  readonly to?: string;
  readonly allowSourceNode: boolean;
  /** Of disks that move to other claims. */
  readonly targetClaims: readonly TargetClaim[];
  /** e.g. 100Mi, a second. */
  readonly bandwidth?: string;
  readonly maxDowntimeMs?: number | undefined;
  readonly deadlineMs?: number | undefined;
  /** Whose turn it is first; the API's default when absent. */
  readonly priority?: MigrationPriority;
  readonly wait: boolean;
  readonly timeoutMs: number;
}

export type CancelOptions = MachineSelection & Pick<MigrateOptions, "wait" | "timeoutMs">;

export type Migration = VirtualMachineMigration & KubernetesObject;

export interface Call {
  readonly cluster: Cluster;
  readonly environment: Environment;
}

/** `migrate`: a VirtualMachineMigration for each machine. What would fail at once is refused here, with the machine's word. */
export async function migrate(call: Call, options: MigrateOptions): Promise<void> {
  if (options.targetClaims.length > 0 && options.names.length !== 1)
    throw new CliError("--target-claim goes with the name of one machine: no two can have a claim", exitCodes.usage);
  await forEach(call, options, async (machine) => {
    const name = machine.metadata.name ?? "";
    const created = await createMigration(call, machine, options);
    const migrationName = created.metadata?.name ?? "";
    call.environment.stdout.write(`virtualmachinemigration.typevisor.io/${migrationName} created\n`);
    if (!options.wait) return;
    const node = await untilMoved(call, created, options.timeoutMs);
    call.environment.stdout.write(`virtualmachine.typevisor.io/${name} moved to node ${node}\n`);
  });
}

/** Makes the migration of one machine; a CliError where it would fail at once. */
export async function createMigration(
  { cluster, environment }: Call,
  machine: Machine,
  options: MigrateOptions,
): Promise<Migration> {
  const refusal = whyNot(machine, options.targetClaims);
  if (refusal !== undefined) throw new CliError(`${machine.metadata.name} cannot move: ${refusal}`);
  const manifest = manifestFor(machine, options, environment.now()) as KubernetesObject;
  return (await cluster.client.create<KubernetesObject>(
    virtualMachineMigrations,
    manifest,
    FIELD_MANAGER,
  )) as Migration;
}

/** The node that the machine is on when the migration is over; a CliError where it has not moved, or not by then. */
export async function untilMoved(call: Call, migration: Migration, timeoutMs: number): Promise<string> {
  const ended = await untilOver(call, migration, timeoutMs);
  const message = ended?.status?.conditions?.find(({ type }) => type === "Ready")?.message ?? "it was deleted";
  if (ended?.status?.phase !== "Succeeded")
    throw new CliError(`${migration.spec.virtualMachineName} has not moved: ${message}`);
  return ended.status.target?.node ?? "";
}

/** What would fail at once, by the machine's own word; the operator looks at the claims themselves. */
function whyNot(machine: Machine, targetClaims: readonly TargetClaim[]): string | undefined {
  const disks = machine.spec.disks.map(({ name }) => name);
  const strange = targetClaims.find(({ disk }) => !disks.includes(disk));
  if (strange !== undefined) {
    const known = disks.length === 0 ? "it has none" : `its disks are ${disks.join(", ")}`;
    return `--target-claim ${strange.disk}=${strange.claimName} names a disk that it does not have; ${known}`;
  }
  const migratable = conditionOf(machine, "Migratable");
  if (migratable?.status !== "False") return undefined;
  if (migratable.reason !== "TargetClaimsNeeded") return migratable.message;
  return targetClaims.length > 0 ? undefined : `${migratable.message}: --target-claim DISK=CLAIM of this command`;
}

/** `cancel-migration`: deletes the migrations of machines that are not over; the machines stay where they are. */
export async function cancelMigration(call: Call, options: CancelOptions): Promise<void> {
  await forEach(call, options, async (machine) => {
    const { name = "", namespace = "" } = machine.metadata;
    const { client } = call.cluster;
    const all = await listAll<Migration>(call.cluster, virtualMachineMigrations, { namespace });
    const open = all.filter((each) => each.spec.virtualMachineName === name && !isOver(each));
    if (open.length === 0) throw new CliError(`${name} does not move, and waits for no turn to`, exitCodes.notFound);
    for (const migration of open) {
      const { name: migrationName = "", uid = "" } = migration.metadata;
      await client.delete(virtualMachineMigrations, { namespace, name: migrationName }, { uid });
      call.environment.stdout.write(`virtualmachinemigration.typevisor.io/${migrationName} is being cancelled\n`);
      if (!options.wait) continue;
      const settled = await untilSettled(call, machine, migrationName, options.timeoutMs);
      if (settled.status?.podName !== machine.status?.podName)
        say(call.environment, `${name} had moved before the word came`);
    }
  });
}

/** The object goes at once; the machine says of it for as long as it has a second pod. */
function untilSettled(
  { cluster, environment }: Call,
  { metadata }: Machine,
  migrationName: string,
  timeoutMs: number,
): Promise<Machine> {
  const isMet = ({ status }: Machine) => status?.migration?.name !== migrationName;
  const expectation = { what: "in one pod", isMet };
  return awaitMachine(cluster, metadata.name ?? "", expectation, { timeoutMs, signal: environment.signal });
}

function manifestFor(
  machine: Machine,
  { to, allowSourceNode, targetClaims, bandwidth, maxDowntimeMs, deadlineMs, priority }: MigrateOptions,
  nowMs: number,
): VirtualMachineMigrationManifest {
  const { name = "", namespace = "" } = machine.metadata;
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachineMigration",
    metadata: { name: `${name}-${Math.floor(nowMs / 1000).toString(36)}`, namespace },
    spec: {
      virtualMachineName: name,
      ...(to === undefined && !allowSourceNode ? {} : { target: { ...(to && { nodeName: to }), allowSourceNode } }),
      ...(targetClaims.length === 0 ? {} : { targetClaims: [...targetClaims] }),
      ...(priority === undefined ? {} : { priority }),
      ...(bandwidth === undefined ? {} : { bandwidth }),
      ...(maxDowntimeMs === undefined ? {} : { maxDowntimeMilliseconds: Math.round(maxDowntimeMs) }),
      ...(deadlineMs === undefined ? {} : { deadlineSeconds: Math.ceil(deadlineMs / 1000) }),
    },
  };
}

/** It will never do anything more. */
function isOver({ status }: Migration): boolean {
  return finalMigrationPhases.has(status?.phase ?? "");
}

const WATCH_SECONDS = 300;

/** The migration once it is over, or as it was last seen where it is gone; undefined where it was never seen. */
async function untilOver(
  { cluster, environment }: Call,
  { metadata }: Migration,
  timeoutMs: number,
): Promise<Migration | undefined> {
  const { namespace = "", name = "", uid } = metadata;
  const deadline = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([deadline, environment.signal]);
  const read = () => orUndefined(cluster.client.get<Migration>(virtualMachineMigrations, namespace, name));
  let last: Migration | undefined;
  try {
    for (let now = await read(); now !== undefined && now.metadata.uid === uid; now = await read()) {
      last = now;
      const selection = { namespace, fieldSelector: `metadata.name=${name}`, timeoutSeconds: WATCH_SECONDS, signal };
      const resourceVersion = now.metadata.resourceVersion ?? "";
      if (isOver(now)) return now;
      for await (const event of cluster.client.watch(virtualMachineMigrations, { ...selection, resourceVersion })) {
        if (event.type !== "BOOKMARK") break;
      }
      signal.throwIfAborted();
    }
    return last;
  } catch (error) {
    if (!deadline.aborted) throw error;
    const seconds = Math.round(timeoutMs / 1000);
    const phase = last?.status?.phase ?? "Pending";
    throw new CliError(`waited ${seconds} s in vain for ${name}, which is ${phase} and goes on`, exitCodes.timeout);
  }
}

/** The first failure is the command's; what could be done for the other machines is done. */
async function forEach(
  { cluster, environment }: Call,
  selection: MachineSelection,
  act: (machine: Machine) => Promise<void>,
): Promise<void> {
  const machines = await selectMachines(cluster, selection);
  const results = await Promise.allSettled(machines.map((machine) => act(machine)));
  const failures = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  const { explain } = await import("../failure.ts");
  for (const failure of failures.slice(1)) say(environment, `error: ${explain(failure).message}`);
  if (failures.length > 0) throw failures[0];
}
