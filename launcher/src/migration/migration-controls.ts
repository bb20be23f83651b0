import type { HandOverDecision, MigrationStatus } from "../../api/migration.ts";
import { MigrationError } from "./migration-error.ts";
import type { Moves } from "./moves.ts";
import type { MigrationTarget } from "./target.ts";

/** What the Launcher API may ask about migrations, whichever side this launcher is. */
export class MigrationControls {
  readonly #moves: Moves;
  /** Of a launcher that took its machine over, or waits to. */
  readonly #target: MigrationTarget | null;

  constructor(moves: Moves, target: MigrationTarget | null) {
    this.#moves = moves;
    this.#target = target;
  }

  status(): MigrationStatus {
    const away = this.#moves.status();
    return away.role === "none" && this.#target ? this.#target.status() : away;
  }

  /** See Moves.start. */
  start(request: Readonly<Record<string, unknown>>): void {
    if (this.#target && this.#target.phase !== "Running")
      throw new MigrationError(`this launcher waits for a machine itself: the migration is ${this.#target.phase}`);
    this.#moves.start(request);
  }

  async cancel(): Promise<void> {
    await this.#side.cancel();
  }

  async decide(winner: HandOverDecision): Promise<void> {
    await this.#side.decide(winner);
  }

  get #side(): Pick<MigrationControls, "cancel" | "decide"> {
    return this.#moves.status().role === "none" && this.#target ? this.#target : this.#moves;
  }
}
