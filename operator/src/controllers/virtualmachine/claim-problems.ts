import type { Disk } from "../../../../crds/src/disk.ts";
import type { Pod } from "../../runtime/wire.ts";
import { FAILED, REFUSED } from "../claim-import.ts";
import { type ClaimFacts, claimDisks } from "./claims.ts";
import type { Observation } from "./observation.ts";
import type { Waiting } from "./waiting.ts";

/** What keeps a machine from having the claims of its disks, the first of them; undefined when nothing does. */
export function claimProblem(observation: Observation): Waiting | undefined {
  for (const { disk, claimName } of claimDisks(observation.vm)) {
    const problem = claimProblemOf(disk, claimName, observation);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** What keeps a disk from having its claim. */
export function claimProblemOf(
  disk: Disk,
  claimName: string,
  { claims, rivals }: Pick<Observation, "claims" | "rivals">,
): Waiting | undefined {
  const claim = claims[claimName];
  const subject = `PersistentVolumeClaim ${claimName} of disk ${disk.name}`;
  if (claim === undefined) {
    const message = `${subject} does not exist; create it, or correct claimName`;
    return { reason: "ClaimNotFound", message, stalled: false };
  }
  if (claim.deleting) {
    const message = `${subject} is being deleted; it can be created again once it is gone`;
    return { reason: "ClaimDeleting", message, stalled: true };
  }
  if (claim.phase === "Lost") {
    const message = `${subject} has lost its volume; restore the PersistentVolume, or make a new claim`;
    return { reason: "ClaimLost", message, stalled: true };
  }
  if (!disk.readOnly && isReadOnly(claim)) {
    const message = `${subject} has access mode ReadOnlyMany alone; set readOnly: true on the disk`;
    return { reason: "ClaimReadOnly", message, stalled: true };
  }
  const notImported = importProblem(claim, subject);
  if (notImported !== undefined) return notImported;
  const rival = rivals.find((candidate) => candidate.claimName === claimName);
  if (rival !== undefined) {
    const other = `VirtualMachine ${rival.vmName}${rival.runs ? "" : ", which is older and about to start"}`;
    const help =
      "stop that one, or give this one a claim of its own. Machines share a claim only where all are readOnly";
    return { reason: "ClaimInUse", message: `${subject} is in use by ${other}; ${help}`, stalled: true };
  }
  return undefined;
}

/** What keeps a claim from being consumed that begins with an image. Its import may wait for the machine's pod. */
function importProblem(claim: ClaimFacts, subject: string): Waiting | undefined {
  if (claim.import === undefined) return undefined;
  const { imageName, state, isPopulated } = claim.import;
  if (isPopulated) return undefined;
  if (state?.startsWith(REFUSED))
    return { reason: "ClaimNotPopulated", message: `${subject}: ${state.slice(REFUSED.length)}`, stalled: true };
  if (state !== undefined && claim.phase === "Pending") return undefined;
  const message = `${subject} begins with VirtualMachineImage ${imageName}, whose import has not begun`;
  return { reason: "ClaimImporting", message, stalled: false };
}

function isReadOnly(claim: ClaimFacts): boolean {
  return claim.accessModes.length > 0 && claim.accessModes.every((mode) => mode === "ReadOnlyMany");
}

/** What a pod without a node waits for, where that is a claim: the scheduler binds those that wait for their consumer. */
export function unboundClaim(observation: Observation, pod: Pod): Waiting | undefined {
  const unbound = claimDisks(observation.vm).find(
    ({ claimName }) => observation.claims[claimName]?.phase === "Pending",
  );
  if (unbound === undefined) return undefined;
  const { disk, claimName } = unbound;
  const imported = observation.claims[claimName]?.import;
  if (imported !== undefined) {
    const message = `PersistentVolumeClaim ${claimName} of disk ${disk.name} is being filled from VirtualMachineImage ${imported.imageName}: ${imported.state ?? "not begun"}`;
    return { reason: "ClaimImporting", message, stalled: imported.state?.startsWith(FAILED) === true };
  }
  const storageClassName = observation.claims[claimName]?.storageClassName;
  const from = storageClassName ? ` (StorageClass ${storageClassName})` : "";
  const scheduled = pod.status?.conditions?.find((condition) => condition.type === "PodScheduled");
  const said = scheduled?.reason === "Unschedulable" ? `; the scheduler says: ${scheduled.message}` : "";
  const message = `PersistentVolumeClaim ${claimName} of disk ${disk.name}${from} is not bound to a volume yet${said}`;
  return { reason: "ClaimNotBound", message, stalled: false };
}
