import type { OwnedFd } from "../sys/fd.ts";
import { DiskError, DiskNotReady, diskError } from "./disk-error.ts";
import type { IoPool } from "./io-pool.ts";
import { lockDisk, type RawDisk, rawDiskOn } from "./raw-disk.ts";

/**
 * Takes what the pod `podUid` offers to this one by way of the node agent: a raw file or block device, opened with page cache,
 * and for a block device once more without (O_DIRECT). Rejects with a reason for a person.
 */
export type AttachmentTaker = (podUid: string) => Promise<readonly OwnedFd[]>;

/** How the node agent says that. */
const NOT_OFFERED = "NotOffered";

export interface AttachedDiskOptions {
  readonly readOnly: boolean;
  readonly takeAttachment?: AttachmentTaker | undefined;
}

/** Opens the disk that the pod `podUid` offers. Rejects with DiskError. */
export async function openAttachedDisk(
  name: string,
  podUid: string,
  pool: IoPool,
  { readOnly, takeAttachment }: AttachedDiskOptions,
): Promise<RawDisk> {
  if (!takeAttachment) throw new DiskError(name, "an attachment needs the node agent; set kvm.agentSocketPath");
  using cleanup = new DisposableStack();
  const [fd, directFd = null] = await take(name, podUid, takeAttachment, cleanup);
  if (!fd) throw new DiskError(name, "its holder offers nothing; see the log of the attachment pod");
  const path = "its attachment";
  lockDisk(name, path, fd.fd, readOnly);
  const disk = rawDiskOn({ name, path, fd, directFd, pool, readOnly });
  cleanup.move();
  return disk;
}

async function take(
  name: string,
  podUid: string,
  taker: AttachmentTaker,
  cleanup: DisposableStack,
): Promise<OwnedFd[]> {
  try {
    return (await taker(podUid)).map((fd) => cleanup.use(fd));
  } catch (cause) {
    if (Object(cause).code === NOT_OFFERED)
      throw new DiskNotReady(name, "its holder does not offer it yet; try again, or see the log of the attachment pod");
    throw diskError(name, "its attachment cannot be had", "see the log of the attachment pod", cause);
  }
}
