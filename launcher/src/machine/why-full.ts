import type { Disk } from "../virtio/block/disk.ts";
import type { Disks } from "../virtio/block/disks.ts";

/** Why a machine is paused whose disks have no room, and until when: a sentence. */
export function whyFull(disks: Pick<Disks, "all" | "full">, isPauseAsked: boolean): string {
  const full = disks.all.filter(({ name }) => disks.full.includes(name));
  const limited = full.filter(({ storage }) => storage.overlay?.isFull);
  const others = full.filter((disk) => !limited.includes(disk)).map(({ name }) => name);
  const what = [
    ...limited.map(overlayFull),
    ...(others.length === 1 ? [`the storage of disk ${others[0]} is full`] : []),
    ...(others.length > 1 ? [`the storages of disks ${others.join(", ")} are full`] : []),
  ].join(", and ");
  const wayOut = limited.length === full.length ? "raise the limit" : "enlarge it or free some";
  const until = isPauseAsked ? "there is room and it is resumed" : `there is room: ${wayOut}`;
  return `${what}; the guest is paused until ${until}`;
}

function overlayFull({ name, storage: { overlay } }: Disk): string {
  return `the overlay of disk ${name} has ${overlay?.usedBytes} bytes and may have ${overlay?.limitBytes}`;
}
