import { virtualMachines } from "../../../operator/src/controllers/virtualmachine/names.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { getMachine, type Machine } from "../cluster/machines.ts";
import { CliError, exitCodes } from "../exit-codes.ts";

/** What to wait for; `what` completes "waited in vain until NAME ...". */
export interface Expectation {
  readonly what: string;
  readonly isMet: (machine: Machine) => boolean;
}

export interface Patience {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

const WATCH_SECONDS = 300;

/** Watches a machine until it is as expected; ends early where its status says that only a change helps. */
export async function awaitMachine(
  cluster: Cluster,
  name: string,
  { what, isMet }: Expectation,
  { timeoutMs, signal }: Patience,
): Promise<Machine> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const ended = AbortSignal.any([deadline, signal]);
  let last = await getMachine(cluster, name);
  for (;;) {
    if (isMet(last)) return last;
    const stalled = conditionOf(last, "Stalled");
    if (isCurrent(last) && stalled?.status === "True") {
      throw new CliError(`${name} is not going to be ${what}: ${stalled.message}`);
    }
    try {
      last = await nextOf(cluster, last, ended);
    } catch (error) {
      if (!deadline.aborted) throw error;
      const ready = conditionOf(last, "Ready");
      throw new CliError(
        `waited ${Math.round(timeoutMs / 1000)} s in vain until ${name} is ${what}; it is ${last.status?.phase ?? "Pending"}: ${ready?.message ?? "no status yet"}`,
        exitCodes.timeout,
      );
    }
  }
}

/** The machine as it is after `machine`'s version. */
async function nextOf(cluster: Cluster, machine: Machine, signal: AbortSignal): Promise<Machine> {
  const { name = "", namespace = "", resourceVersion = "" } = machine.metadata;
  const selection = { namespace, fieldSelector: `metadata.name=${name}` };
  const options = { ...selection, resourceVersion, timeoutSeconds: WATCH_SECONDS, signal };
  for await (const event of cluster.client.watch<Machine>(virtualMachines, options)) {
    if (event.type === "DELETED") {
      throw new CliError(`${name} was deleted meanwhile`, exitCodes.notFound);
    }
    if (event.type === "ADDED" || event.type === "MODIFIED") {
      return event.object;
    }
    if (event.type === "ERROR") break;
  }
  // The watch ended, or its version was too old: as the machine is now.
  signal.throwIfAborted();
  return getMachine(cluster, name);
}

/** The status is about the spec as it is. */
export function isCurrent({ metadata, status }: Machine): boolean {
  return status?.observedGeneration === metadata.generation;
}

export function conditionOf(machine: Machine, type: string) {
  return machine.status?.conditions?.find((condition) => condition.type === type);
}

/** Phases of a machine whose guest runs. */
const RUNNING: ReadonlySet<string> = new Set(["Running", "Migrating"]);

export const expectations = {
  running: { what: "running", isMet: (machine) => isCurrent(machine) && RUNNING.has(machine.status?.phase ?? "") },
  off: {
    what: "off",
    isMet: (machine) =>
      isCurrent(machine) && machine.status?.phase === "Stopped" && conditionOf(machine, "Ready")?.reason === "Halted",
  },
  paused: {
    what: "paused",
    isMet: (machine) => isCurrent(machine) && conditionOf(machine, "Paused")?.status === "True",
  },
} as const satisfies Record<string, Expectation>;
