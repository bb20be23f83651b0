/**
 * Something whose work shows, so that it can be looked for instead of waited for: most of all in memory. Whoever writes there
 * (a guest's driver, the kernel) makes an event of it only when asked to; while it is watched it is not asked to.
 */
export interface PollSource {
  /** The poller's: while true it looks, and there need be no events. */
  isWatched: boolean;
  /** Whether there is work: by a look at memory, or by one call of the kernel that waits for nothing and may do it as well. */
  isReady(): boolean;
  /** Does the work; called on the event loop. May not throw. */
  run(): void;
  /**
   * It is no longer watched: asks for events first, then looks. True when work came before it had asked, of which there may
   * be no event; `run` follows then.
   */
  rest(): boolean;
}

/** Looks at sources for a while after they had work, so that the next work need not wake anybody. */
export interface Poller {
  /** An event told of work of `source`, which is about to be done: the poller may look at it from now on. */
  woken(source: PollSource): void;
  /** `source` waits for something: it is looked at as well if others are. */
  join(source: PollSource): void;
  /** It is not looked at any more, and not asked to `rest`. */
  leave(source: PollSource): void;
}
