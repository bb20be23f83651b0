/**
 * Live migration between two launchers of the same machine, as the Launcher API shows it:
 *
 *   GET  /v1/migration                   -> MigrationStatus
 *   POST /v1/migration/start  MigrationRequest   -> 202 MigrationStatus; of a launcher whose machine runs: the source
 *   POST /v1/migration/cancel            -> MigrationStatus, once the machine runs on here; 409 when it is too late
 *   POST /v1/migration/decide {"winner": "source"|"target"|"neither"}  -> MigrationStatus; see HandOverDecision
 *
 * The target is a launcher that was started with `launcher run --receive`; it listens where `migration` of its machine.json says.
 */

/** Where to, and how. */
export interface MigrationRequest {
  /** Told again in the status of the source, so that who asked knows this migration from others; up to 64 characters. */
  readonly id?: string;
  /** IP address and port of the target's control connection; memory goes to the port above. */
  readonly address: string;
  readonly port: number;
  /** Connections that carry memory, 1 to 8; 2 when absent. */
  readonly connections?: number;
  /** The guest is stopped once the rest is expected to take no longer, 1 to 60000; 300 when absent. */
  readonly maxDowntimeMs?: number;
  /** After this the migration is given up, and the machine runs on; 3600000 when absent. */
  readonly deadlineMs?: number;
  /** Of all connections together; no limit when absent. */
  readonly bandwidthBytesPerSecond?: number;
  /** Slows a guest that dirties memory faster than it can be sent; true when absent. */
  readonly autoConverge?: boolean;
}

/**
 * Of a source: Connecting -> Copying -> HandingOver -> Committed -> Gone, or Failed, from where the machine runs on.
 * Of a target: Listening -> Receiving -> Prepared -> Running, or Failed, which ends the launcher.
 * Undecided, of both: the link broke where one side cannot know what the other one did. It waits for `decide`.
 */
export type SourcePhase = "Connecting" | "Copying" | "HandingOver" | "Committed" | "Undecided" | "Gone" | "Failed";
export type TargetPhase = "Listening" | "Receiving" | "Prepared" | "Undecided" | "Running" | "Failed";

export interface MigrationStatus {
  readonly role: "none" | "source" | "target";
  /** Of a source whose request had one. */
  readonly id?: string;
  /** Null where the role is none. */
  readonly phase: SourcePhase | TargetPhase | null;
  /** A sentence: what is going on, or why it failed. */
  readonly message: string;
  /** Of a source. */
  readonly progress?: MigrationProgress;
  /** Of a source that is Gone; its launcher ends then, and has it in its termination message too. */
  readonly result?: MigrationResult;
}

export interface MigrationProgress {
  /** Passes over memory and disks so far, the one under way included. */
  readonly rounds: number;
  /** Memory that was sent, pages of zeroes left out. */
  readonly sentBytes: number;
  /** What the pass that is under way has left, about. */
  readonly remainingBytes: number;
  /** The same of the disks that are copied: `image` and `empty`, and those that the target's machine.json says are `copied`. */
  readonly diskSentBytes: number;
  readonly diskRemainingBytes: number;
  /** Of memory and disks together, measured in the last pass; 0 before. */
  readonly bytesPerSecond: number;
  readonly dirtyBytesPerSecond: number;
  /** How much of the time the guest is held back, 0 to 0.99. */
  readonly throttle: number;
}

export interface MigrationResult {
  readonly totalMs: number;
  /** From the guest's last instruction here until the target said that it runs there. */
  readonly downtimeMs: number;
  /** Parts of the downtime: bringing guest and devices to rest, the last pass, the state, loading it, resuming. */
  readonly split: {
    readonly haltMs: number;
    readonly lastPassMs: number;
    readonly stateMs: number;
    readonly loadMs: number;
    readonly resumeMs: number;
  };
  readonly sentBytes: number;
  readonly diskSentBytes: number;
  readonly rounds: number;
}

/** What the one who sees both sides knows of one: its phase, or that the launcher is gone for good, or nothing. */
export type SourceView = SourcePhase | "gone" | "unreachable";
export type TargetView = TargetPhase | "gone" | "unreachable";

/**
 * Who the machine is from now on. `neither`: both end, and the machine starts afresh; nobody can know that memory and disks
 * still belong together.
 */
export type HandOverDecision = "source" | "target" | "neither";

/**
 * What whoever sees both sides of a migration decides where they cannot: null to wait and look again, or because they need
 * nobody. It is decided once: the answer is recorded before anyone is told, and told again until both have acted on it.
 * "source" is only told to the source once the target has acted on it, or is gone.
 */
export function decideHandOver(source: SourceView, target: TargetView): HandOverDecision | null {
  const targetIsStuck = target === "Undecided" || target === "Prepared";
  if (target === "Running") return "target";
  if (source === "Undecided") {
    // It said Commit: the target may have heard it, unless it says that it did not.
    if (targetIsStuck) return "target";
    if (target === "Failed") return "source";
    return target === "gone" ? "neither" : null;
  }
  if (source === "gone") {
    // The source may have run on before it went, with disks that the target's memory knows nothing of.
    return targetIsStuck || target === "Failed" || target === "gone" ? "neither" : null;
  }
  // Before Commit the machine is the source's.
  return source === "Failed" && targetIsStuck ? "source" : null;
}
