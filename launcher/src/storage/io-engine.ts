import type { IoEngineName } from "../../api/control.ts";
import { SysError } from "../sys/errors.ts";
import { IoUring } from "../sys/io-uring.ts";
import type { Poller } from "../sys/poll-source.ts";
import { IoPool } from "./io-pool.ts";

/** As many as a disk has requests under way. */
const RING_ENTRIES = 64;

export interface IoEngine {
  readonly name: IoEngineName;
  /** Why it is not io_uring; null where it is. */
  readonly reason: string | null;
  /** For `openDisks`. */
  readonly pool: IoPool;
}

/** Opens the ring of a disk, which `poller` looks at. Throws SysError. */
export function openDiskRing(poller: Poller | null = null): IoUring {
  return IoUring.open(RING_ENTRIES, poller);
}

/** Finds out whether this kernel has io_uring and lets this process use it: containers are often forbidden to. */
export function openIoEngine(openRing: () => IoUring = openDiskRing): IoEngine {
  const probe = ringOrReason(openRing);
  if (typeof probe === "string") return { name: "threads", reason: probe, pool: new IoPool() };
  probe[Symbol.dispose]();
  // A disk for which there is no ring any more (EMFILE, ENOMEM) does without.
  const ring = () => {
    const opened = ringOrReason(openRing);
    return typeof opened === "string" ? null : opened;
  };
  return { name: "io_uring", reason: null, pool: new IoPool(undefined, ring) };
}

function ringOrReason(openRing: () => IoUring): IoUring | string {
  try {
    return openRing();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const meaning = error instanceof SysError ? meanings[error.code] : undefined;
    return meaning === undefined ? message : `${message}: ${meaning}`;
  }
}

/** What errors of io_uring_setup(2) come from. */
const meanings: Readonly<Record<string, string>> = {
  EINVAL: "the kernel is older than Linux 6.1",
  ENOSYS: "the kernel is built without it, or this is a sandbox",
  EPERM: "the container's seccomp profile or kernel.io_uring_disabled forbids it",
};
