import type {
  HandOverDecision,
  MigrationStatus,
  SourcePhase,
  TargetPhase,
} from "../../../../../launcher/api/migration.ts";
import { LauncherError } from "../../../launcher-client/launcher-client.ts";

/** A launcher as far as machines move from and to it. */
export interface Mover {
  /** When its guest began, wherever that was. */
  startedAtMs: number;
  /** Its last word, once it has ended. */
  end?: { readonly reason: string; readonly exitCode: number; readonly migration?: object };
  /** Of one that was started to take its machine over. */
  receives?: TargetPhase;
  /** Of one whose machine moves, or was to. */
  move?: FakeMove;
}

/** Where the link breaks: while memory is copied, or when Commit was sent, before or after the target has heard it. */
export type Cut = "Copying" | "before Commit arrives" | "after Commit arrives";

interface MoveOptions {
  readonly id: string;
  readonly cut: Cut | undefined;
  /** There is memory left to copy. */
  readonly isSlow: () => boolean;
}

const RESULT = {
  ...{ totalMs: 1500, downtimeMs: 25.5, sentBytes: 2 ** 24, diskSentBytes: 0, rounds: 3 },
  split: { haltMs: 1, lastPassMs: 10, stateMs: 3, loadMs: 4, resumeMs: 5 },
};

/** One migration between two fake launchers, by the rules of real ones: docs/migration.md. A step at each tick. */
export class FakeMove {
  phase: SourcePhase = "Connecting";
  readonly #source: Mover;
  readonly #target: Mover | undefined;
  readonly #id: string;
  readonly #cut: Cut | undefined;
  readonly #isSlow: () => boolean;

  private constructor(source: Mover, target: Mover | undefined, { id, cut, isSlow }: MoveOptions) {
    this.#source = source;
    this.#target = target;
    this.#id = id;
    this.#cut = cut;
    this.#isSlow = isSlow;
  }

  static begin(source: Mover, target: Mover | undefined, options: MoveOptions): void {
    const isBusy = source.move !== undefined && source.move.phase !== "Failed";
    if (isBusy || (source.receives !== undefined && source.receives !== "Running"))
      throw conflict("a migration is under way");
    source.move = new FakeMove(source, target, options);
  }

  static cancel({ move }: Mover): void {
    if (move === undefined || !BEFORE_COMMIT.has(move.phase)) throw conflict("it is too late to cancel");
    move.#fail();
  }

  static decide(mover: Mover, winner: HandOverDecision): void {
    const { move } = mover;
    if (move?.phase === "Undecided") {
      if (winner === "source") move.phase = "Failed";
      else move.#leave();
    } else if (mover.receives === "Undecided" || (mover.receives === "Prepared" && winner === "source")) {
      if (winner === "target") mover.receives = "Running";
      else neverCame(mover);
    } else if (winner !== "target" || mover.receives !== "Running") throw conflict("there is nothing to decide so");
  }

  static statusOf({ move, receives }: Mover): MigrationStatus {
    if (move !== undefined) {
      const progress = {
        rounds: 1,
        sentBytes: 2 ** 20,
        remainingBytes: 2 ** 22,
        diskSentBytes: 0,
        diskRemainingBytes: 0,
      };
      const rates = { bytesPerSecond: 2 ** 27, dirtyBytesPerSecond: 2 ** 20, throttle: 0 };
      return {
        role: "source",
        id: move.#id,
        phase: move.phase,
        message: `is ${move.phase}`,
        progress: { ...progress, ...rates },
      };
    }
    if (receives !== undefined) return { role: "target", phase: receives, message: `is ${receives}` };
    return { role: "none", phase: null, message: "no migration" };
  }

  /** Whether the guest runs in a launcher that has not ended. */
  static guestRunsIn({ move, receives }: Mover): boolean {
    if (move !== undefined) return move.phase === "Connecting" || move.phase === "Copying" || move.phase === "Failed";
    return receives === undefined || receives === "Running";
  }

  tick(): void {
    const target = this.#target;
    if (this.#source.end !== undefined) this.#sourceEnded();
    else if (target === undefined || target.end !== undefined) this.#lost();
    else this.#step(target);
  }

  #step(target: Mover): void {
    switch (this.phase) {
      case "Connecting":
        if (target.receives !== "Listening") this.#fail();
        else {
          target.receives = "Receiving";
          this.phase = "Copying";
        }
        return;
      case "Copying":
        if (this.#cut === "Copying") this.#fail();
        else if (!this.#isSlow()) this.phase = "HandingOver";
        return;
      case "HandingOver":
        target.receives = "Prepared";
        target.startedAtMs = this.#source.startedAtMs;
        this.phase = "Committed";
        return;
      case "Committed":
        if (this.#cut === "before Commit arrives") target.receives = "Undecided";
        else target.receives = "Running";
        if (this.#cut === undefined || this.#cut === "Copying") this.#leave();
        else this.phase = "Undecided";
    }
  }

  #sourceEnded(): void {
    const target = this.#target;
    if (target === undefined || target.end !== undefined) return;
    if (target.receives === "Receiving") neverCame(target);
    // A Commit that was sent is still on its way.
    else if (target.receives === "Prepared") target.receives = this.phase === "Committed" ? "Running" : "Undecided";
  }

  #lost(): void {
    if (BEFORE_COMMIT.has(this.phase)) this.phase = "Failed";
    else if (this.phase === "Committed") this.phase = "Undecided";
  }

  #fail(): void {
    this.phase = "Failed";
    const isOurs = this.#target?.receives === "Receiving" || this.#target?.receives === "Prepared";
    if (this.#target !== undefined && isOurs) neverCame(this.#target);
  }

  #leave(): void {
    this.phase = "Gone";
    this.#source.end ??= { reason: "Migrated", exitCode: 0, migration: RESULT };
  }
}

const BEFORE_COMMIT: ReadonlySet<SourcePhase> = new Set<SourcePhase>(["Connecting", "Copying", "HandingOver"]);

function neverCame(target: Mover): void {
  target.receives = "Failed";
  target.end ??= { reason: "StateInvalid", exitCode: 67 };
}

function conflict(message: string): LauncherError {
  return new LauncherError(409, "Conflict", message);
}
