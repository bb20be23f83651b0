/** A state that was saved is whole, but cannot be that of this machine on this host. */
export class StateRefused extends Error {
  /** What of the machine it is about, such as "processor 0" or "virtio-blk root". */
  readonly part: string;

  /** `problem` says what does not fit, and what to do where something can be done. */
  constructor(part: string, problem: string, options?: ErrorOptions) {
    super(`${part}: ${problem}`, options);
    this.name = "StateRefused";
    this.part = part;
  }
}

/** Runs `restore`; what it throws is a StateRefused of `part` then. */
export function refusing<Result>(part: string, restore: () => Result): Result {
  try {
    return restore();
  } catch (cause) {
    if (cause instanceof StateRefused) throw cause;
    throw new StateRefused(part, cause instanceof Error ? cause.message : String(cause), { cause });
  }
}
