/** A disk that cannot be used as it is configured. The message names the disk, the reason and the way out. */
export class DiskError extends Error {
  /** Name of the disk in the machine's configuration. */
  readonly disk: string;

  constructor(disk: string, problem: string, options?: ErrorOptions) {
    super(`disk ${disk}: ${problem}`, options);
    this.name = "DiskError";
    this.disk = disk;
  }
}

/** A disk that somebody else uses. */
export class DiskInUse extends DiskError {}

/** A disk that cannot be used yet: the same may work later. */
export class DiskNotReady extends DiskError {}

/** `cause` as a DiskError: itself, or one that says `what` cannot be done, why, and the way out. */
export function diskError(disk: string, what: string, wayOut: string, cause: unknown): DiskError {
  if (cause instanceof DiskError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new DiskError(disk, `${what} (${reason}); ${wayOut}`, { cause });
}

/** Runs `step`; what it throws becomes a DiskError. */
export function asDiskError<T>(disk: string, what: string, wayOut: string, step: () => T): T {
  try {
    return step();
  } catch (cause) {
    throw diskError(disk, what, wayOut, cause);
  }
}
