import type { MigrationLimits } from "./limits.ts";

export interface HeartbeatListener {
  /** It is time to say that this side is alive. */
  beat(): void;
  /** Once: nothing was heard for too long. No beat follows. */
  silent(): void;
}

/**
 * Notices that nothing comes any more. Silence is counted in beats, not measured: a process that was stopped itself reads
 * what came meanwhile between its first beat after that and the next.
 */
export class Heartbeat implements Disposable {
  readonly #timer: NodeJS.Timeout;
  #beatsOfSilence = 0;

  constructor({ beatMs, silentBeats }: Pick<MigrationLimits, "beatMs" | "silentBeats">, listener: HeartbeatListener) {
    this.#timer = setInterval(() => {
      if (++this.#beatsOfSilence <= silentBeats) {
        listener.beat();
        return;
      }
      clearInterval(this.#timer);
      listener.silent();
    }, beatMs);
  }

  /** Something came. */
  heard(): void {
    this.#beatsOfSilence = 0;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Notices that a pass gets no further, from what is looked at beat by beat. */
export class StallWatch {
  readonly #idleBeats: number;
  #last = "";
  #beatsAlike = 0;

  constructor({ idleBeats }: Pick<MigrationLimits, "idleBeats">) {
    this.#idleBeats = idleBeats;
  }

  /** `marks` change as long as it goes on. True when they have been the same for too long. */
  isStalled(marks: readonly number[]): boolean {
    const now = marks.join();
    this.#beatsAlike = now === this.#last ? this.#beatsAlike + 1 : 0;
    this.#last = now;
    return this.#beatsAlike >= this.#idleBeats;
  }
}
