import { SAVED_MAP_LIMIT_BYTES } from "../storage/cluster-map.ts";
import type { Disk } from "../virtio/block/disk.ts";

/** Why the disks of a machine cannot go on in another launcher, a sentence each; empty where they can. */
export function whyDisksStay(disks: readonly Pick<Disk, "name" | "storage" | "tracked">[]): readonly string[] {
  return disks.flatMap(({ name, storage, tracked }) => {
    const overlay = tracked.contents()?.overlay;
    const reasons = [];
    if (storage.isFull) reasons.push(`disk ${name} waits for room in its storage; free or enlarge that`);
    if (overlay && !overlay.held.canBeSaved)
      reasons.push(`disk ${name} has changes beyond ${SAVED_MAP_LIMIT_BYTES} bytes of its image`);
    return reasons;
  });
}
