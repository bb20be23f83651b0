/** How long the launchers of a migration wait for each other. Whole milliseconds, and beats. */
export interface MigrationLimits {
  /** For the answer to Commit. */
  readonly answerMs: number;
  /** From when the guest stands still until Commit, besides the downtime that was asked for; then it runs on at the source. */
  readonly standstillMs: number;
  /** Each side says so often that it is alive. */
  readonly beatMs: number;
  /** Beats without a byte from the other side: it, or the way to it, is gone. */
  readonly silentBeats: number;
  /** Beats in which the target gets nothing and does nothing, though both are alive and the guest runs. */
  readonly idleBeats: number;
}

export const MIGRATION_LIMITS: MigrationLimits = {
  answerMs: 10_000,
  standstillMs: 10_000,
  beatMs: 3_000,
  silentBeats: 10,
  idleBeats: 10,
};
