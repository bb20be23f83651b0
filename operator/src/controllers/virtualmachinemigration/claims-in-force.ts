import {
  finalMigrationPhases,
  type VirtualMachineMigrationStatus,
} from "../../../../crds/src/virtualmachinemigration.ts";
import type { Plan } from "./plan.ts";
import type { Situation } from "./situation.ts";

type ClaimsInForce = NonNullable<VirtualMachineMigrationStatus["claimsInForce"]>;

/**
 * The plan, which records too what is known of where the disks are. It is written as soon as it is known: the pods that say so
 * go in the steps that follow. Whoever reads it looks at it once the migration has ended.
 */
export function withClaims(plan: Plan, situation: Situation): Plan {
  const { status, spec } = situation.seen.migration;
  if (spec.targetClaims === undefined) return plan;
  const known = knownClaims(situation) ?? status?.claimsInForce;
  const claimsInForce = known ?? (finalMigrationPhases.has(plan.phase) ? "Undecided" : undefined);
  return claimsInForce === undefined ? plan : { ...plan, changes: { ...plan.changes, claimsInForce } };
}

/** Where the disks are for sure; undefined where that is not known. */
export function knownClaims({ source, target, decided, isMoved, seen }: Situation): ClaimsInForce | undefined {
  // One that was told to go on, or said that it does: what it has written since is on the target's claims alone.
  if (isMoved || decided === "target" || source === "Gone") return "Target";
  if (decided === "source" || source === "idle" || source === "Failed") return "Source";
  // It ended without its machine, or was never made.
  const wasNever = target === "absent" && seen.target === undefined;
  return target === "Failed" || wasNever ? "Source" : undefined;
}
