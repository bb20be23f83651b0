import { createHash } from "node:crypto";
import type { Disk } from "../../../../crds/src/disk.ts";
import type { VirtualMachine } from "../../../../crds/src/virtualmachine.ts";
import type { Pod } from "../../runtime/wire.ts";
import { claimNameOf } from "./claims.ts";
import { annotations, identityOf } from "./names.ts";

/** An attachment pod as far as decisions look at it: it holds the volume of one disk for one launcher pod. */
export interface Attachment {
  readonly pod: Pod;
  readonly name: string;
  readonly diskName: string;
  /** UID of the pod that it is for. */
  readonly launcherUID: string;
  /** It is for this disk as it is in the spec now, and for this launcher pod. */
  matches(disk: Disk, launcherUID: string): boolean;
  readonly isLeaving: boolean;
  readonly hasEnded: boolean;
}

export function attachmentOf(pod: Pod): Attachment {
  const { name = "", annotations: marks = {}, deletionTimestamp } = pod.metadata ?? {};
  const phase = pod.status?.phase;
  return {
    pod,
    name,
    diskName: marks[annotations.attachedDisk] ?? "",
    launcherUID: marks[annotations.attachedTo] ?? "",
    matches: (disk, launcherUID) =>
      marks[annotations.attachedAs] === diskDigest(disk) && marks[annotations.attachedTo] === launcherUID,
    isLeaving: deletionTimestamp !== undefined,
    hasEnded: phase === "Succeeded" || phase === "Failed",
  };
}

/** Changes with everything that a running machine's disk is made from. */
export function diskDigest(disk: Disk): string {
  const sorted = JSON.stringify(Object.entries(disk).sort(([a], [b]) => (a < b ? -1 : 1)));
  return createHash("sha256").update(sorted).digest("hex").slice(0, 10);
}

/**
 * Names that the attachment pods of a disk can have. A second one takes the place of one that somebody deleted: its volume
 * must not leave the node while the guest uses it. Part of the UID keeps them from meeting anyone else's.
 */
export function attachmentNames(vm: VirtualMachine, diskName: string): readonly [string, string] {
  const { name, uid } = identityOf(vm);
  const rest = `${name}-${uid.slice(0, 8)}-${diskName}`;
  return [`disk-${rest}`, `disk2-${rest}`];
}

/** Disks that a running machine can be given: those on claims that it was not started with. */
export function hotDisks(vm: VirtualMachine, started: ReadonlySet<string>): { disk: Disk; claimName: string }[] {
  return vm.spec.disks.flatMap((disk) => {
    const claimName = claimNameOf(disk, vm.metadata.name ?? "");
    return claimName === undefined || started.has(disk.name) ? [] : [{ disk, claimName }];
  });
}
