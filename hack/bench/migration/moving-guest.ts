/** What is moved how, alike under each VMM. */
export interface MoveOptions {
  /** That carry memory. */
  readonly connections: number;
  readonly maxDowntimeMs: number;
}

/** What a VMM says of a migration that it made. */
export interface MoveReport {
  readonly downtimeMs: number;
  readonly totalMs: number;
  readonly sentMiB: number;
  readonly rounds: number;
  /** Of the downtime, and of disks, where the VMM says so. */
  readonly parts?: Readonly<
    Record<"haltMs" | "lastPassMs" | "stateMs" | "loadMs" | "resumeMs" | "diskSentMiB", number>
  >;
}

/** The test guest under a VMM, that moves from one process to another. */
export interface MovingGuest extends AsyncDisposable {
  /** Types a command where the guest is now, and resolves with what it printed once that has `answer`. */
  ask(command: string, answer: RegExp): Promise<string>;
  /** The processes that it moves from and to; the second is started by that. */
  pids(): Promise<readonly number[]>;
  /** Resolves when it runs in the other process. */
  move(options: MoveOptions): Promise<MoveReport>;
}

export const MEMORY_MIB = 256;
