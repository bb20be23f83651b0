import type { Pod } from "../../../runtime/wire.ts";

const DISK_VOLUME = /^disk-(.+)$/;

/** The claims that a pod has for its disks, by disk. */
export function claimsOfPod(pod: Pod): ReadonlyMap<string, string> {
  return new Map(
    (pod.spec?.volumes ?? []).flatMap(({ name, persistentVolumeClaim }) => {
      const disk = DISK_VOLUME.exec(name)?.[1];
      return disk === undefined || persistentVolumeClaim === undefined ? [] : [[disk, persistentVolumeClaim.claimName]];
    }),
  );
}

/** Where guests wrote last: what else there is of their disks is old, or half a copy. */
export class ClaimsOfGuests {
  readonly #last = new Map<string, ReadonlyMap<string, string>>();

  /** The claim that a machine's guest ran on last. */
  of(vmUID: string, disk: string): string | undefined {
    return this.#last.get(vmUID)?.get(disk);
  }

  ran(vmUID: string, claims: ReadonlyMap<string, string>): void {
    this.#last.set(vmUID, claims);
  }

  /** What is wrong with starting a machine in that pod. */
  sinsOfStart(vmUID: string, pod: Pod): string[] {
    const args = pod.spec?.containers[0]?.args ?? [];
    return [...claimsOfPod(pod)].flatMap(([disk, claimName]) => {
      const last = this.of(vmUID, disk);
      const isCopied = args.some((arg) => arg.startsWith(`--copied=${disk}=`));
      if (last === undefined || (last !== claimName) === isCopied) return [];
      return [`disk ${disk} is to be on claim ${claimName}, and its guest ran on ${last} last (copied: ${isCopied})`];
    });
  }
}
