import { formatTime } from "../../runtime/clock.ts";
import { unsettledDisks } from "../virtualmachine/moved-disks.ts";
import { isFinished } from "../virtualmachine/observe.ts";
import type { Observation } from "./observation.ts";
import type { Plan } from "./plan.ts";

/** A machine may be created in the same moment as its migration. */
const MACHINE_PATIENCE_MS = 10_000;
/** Off, and not about to be on. */
const OFF: ReadonlySet<string> = new Set(["Stopped", "Failed", "Terminating"]);

/** A migration that has not begun: whether it can, and whether its turn has come. */
export function beforeTurn(observation: Observation, nowMs: number): Plan {
  const { migration, vm, current } = observation;
  const { virtualMachineName: name, target } = migration.spec;
  if (migration.metadata.deletionTimestamp !== undefined)
    return {
      phase: "Cancelled",
      reason: "MigrationCancelled",
      message: "The migration was deleted before its turn came",
    };
  if (vm === undefined) return withoutMachine(observation, nowMs);
  const ready = vm.status?.conditions?.find(({ type }) => type === "Ready");
  if (vm.metadata.deletionTimestamp !== undefined || OFF.has(vm.status?.phase ?? ""))
    return failed("MachineNotRunning", `VirtualMachine ${name} does not run: ${ready?.message ?? "it is off"}`);
  const node = current?.spec?.nodeName;
  const runs = vm.status?.conditions?.find(({ type }) => type === "Running")?.status === "True";
  const isThere = current !== undefined && vm.status?.podUID === current.metadata?.uid && !isFinished(current);
  if (!runs || !isThere || node === undefined || current?.metadata?.deletionTimestamp !== undefined)
    return waiting(`Waits for VirtualMachine ${name} to run: ${ready?.message ?? "it has not started yet"}`);
  const wrong = wrongTarget(observation, node);
  if (wrong !== undefined) return failed("TargetInvalid", wrong);
  if (unsettledDisks(vm.status?.movedDisks ?? []).length > 0)
    return waiting(`Waits until it is settled which claims VirtualMachine ${name} is on after its last migration`);
  const migratable = vm.status?.conditions?.find(({ type }) => type === "Migratable");
  const isUpToClaims = migratable?.reason === "TargetClaimsNeeded";
  if (migratable?.status === "False" && !isUpToClaims) return failed("NotMigratable", migratable.message);
  if (observation.targetClaimProblem !== undefined) return failed("TargetClaimInvalid", observation.targetClaimProblem);
  if (isUpToClaims && observation.disksWithoutTarget.length > 0) return failed("NotMigratable", migratable.message);
  if (migratable?.status !== "True" && !isUpToClaims)
    return waiting(`Waits to hear whether VirtualMachine ${name} can move: ${migratable?.message ?? ""}`);
  if (observation.waitsFor !== undefined) return waiting(observation.waitsFor);
  if (observation.ofOther !== undefined)
    return waiting(`Pod ${observation.ofOther} of another migration has to go first`);
  const where = target?.nodeName === undefined ? "another node" : `node ${target.nodeName}`;
  return {
    phase: "Preparing",
    reason: "MigrationPreparing",
    message: `The machine is about to move from node ${node} to ${where}`,
    changes: {
      startedAt: formatTime(nowMs),
      source: { node, podName: current.metadata?.name ?? "", podUID: current.metadata?.uid ?? "" },
    },
  };
}

function withoutMachine({ migration }: Observation, nowMs: number): Plan {
  const { virtualMachineName: name } = migration.spec;
  // Not from its creation: that is by the API server's clock, which may be minutes off.
  const seen = migration.status?.conditions?.find(({ type }) => type === "Reconciling");
  const untilMs = (seen === undefined ? nowMs : Date.parse(seen.lastTransitionTime)) + MACHINE_PATIENCE_MS;
  const message = `There is no VirtualMachine ${name} in namespace ${migration.metadata.namespace}`;
  return nowMs < untilMs ? { ...waiting(message), wakeAtMs: untilMs } : failed("MachineNotFound", message);
}

function wrongTarget({ migration, nodes }: Observation, sourceNode: string): string | undefined {
  const { nodeName, allowSourceNode } = migration.spec.target ?? {};
  if (nodeName === undefined) return undefined;
  if (nodeName === sourceNode && allowSourceNode !== true)
    return `The machine is on node ${nodeName} already; name another in spec.target.nodeName, or set spec.target.allowSourceNode`;
  const node = nodes.find(({ name }) => name === nodeName);
  if (node === undefined) return `There is no node ${nodeName}; correct spec.target.nodeName`;
  return node.kvmDevices > 0 ? undefined : `Node ${nodeName} offers no KVM: the node agent does not run there`;
}

function waiting(message: string): Plan {
  return { phase: "Pending", reason: "MigrationPending", message };
}

function failed(
  reason: "MachineNotFound" | "MachineNotRunning" | "NotMigratable" | "TargetInvalid" | "TargetClaimInvalid",
  message: string,
): Plan {
  return { phase: "Failed", reason, message };
}
