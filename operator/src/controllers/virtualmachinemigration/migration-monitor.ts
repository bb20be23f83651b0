import type { HandOverDecision, MigrationRequest, MigrationStatus } from "../../../../launcher/api/migration.ts";
import type { LauncherTarget } from "../../launcher-client/launcher-client.ts";
import type { Clock } from "../../runtime/clock.ts";
import { messageOf } from "../../runtime/errors.ts";
import type { Heard } from "./observation.ts";

/** The part of the launcher client that is needed here. */
export interface MigrationCalls {
  migration(target: LauncherTarget): Promise<MigrationStatus>;
  startMigration(target: LauncherTarget, request: MigrationRequest): Promise<MigrationStatus>;
  cancelMigration(target: LauncherTarget): Promise<MigrationStatus>;
  decideMigration(target: LauncherTarget, winner: HandOverDecision): Promise<MigrationStatus>;
}

/** One launcher of a migration. */
export interface Launcher extends LauncherTarget {
  readonly podUID: string;
  /** Of the machine: by the time of an answer the migration's object may be gone. */
  readonly key: string;
}

interface Entry {
  heard: Heard | undefined;
  timer: Disposable | undefined;
  isAsking: boolean;
  /** Raised by each word to the launcher: an answer to what was asked before it says nothing. */
  epoch: number;
}

/**
 * What launchers last said of their migrations. There is nothing to watch, so they are asked again and again while a migration
 * is under way; each answer, and its absence, brings the next pass. Nothing here outlives the process.
 */
export class MigrationMonitor implements Disposable {
  readonly #calls: MigrationCalls;
  readonly #clock: Clock;
  readonly #onNews: (key: string) => void;
  readonly #entries = new Map<string, Entry>();

  constructor(calls: MigrationCalls, clock: Clock, onNews: (key: string) => void) {
    this.#calls = calls;
    this.#clock = clock;
    this.#onNews = onNews;
  }

  heard(podUID: string): Heard | undefined {
    return this.#entries.get(podUID)?.heard;
  }

  /** Asks after a while, at once the first time; what is to be asked already stays so. */
  follow(launcher: Launcher, intervalMs: number): void {
    const entry = this.#entry(launcher.podUID);
    if (entry.timer !== undefined || entry.isAsking) return;
    const delayMs = entry.heard === undefined ? 0 : intervalMs;
    entry.timer = this.#clock.after(delayMs, () => {
      entry.timer = undefined;
      void this.#ask(launcher, entry);
    });
  }

  async start(launcher: Launcher, request: MigrationRequest): Promise<void> {
    await this.#say(launcher, () => this.#calls.startMigration(launcher, request));
  }

  async cancel(launcher: Launcher): Promise<void> {
    await this.#say(launcher, () => this.#calls.cancelMigration(launcher));
  }

  async decide(launcher: Launcher, winner: HandOverDecision): Promise<void> {
    await this.#say(launcher, () => this.#calls.decideMigration(launcher, winner));
  }

  /** Forgets a pod that is gone. */
  forget(podUID: string): void {
    this.#entries.get(podUID)?.timer?.[Symbol.dispose]();
    this.#entries.delete(podUID);
  }

  [Symbol.dispose](): void {
    for (const podUID of [...this.#entries.keys()]) this.forget(podUID);
  }

  #entry(podUID: string): Entry {
    const entry = this.#entries.get(podUID) ?? { heard: undefined, timer: undefined, isAsking: false, epoch: 0 };
    this.#entries.set(podUID, entry);
    return entry;
  }

  async #ask(launcher: Launcher, entry: Entry): Promise<void> {
    const { epoch } = entry;
    entry.isAsking = true;
    const askedAtMs = this.#clock.now();
    try {
      const status = await this.#calls.migration(launcher);
      // By the time of the question: what happened after it may not be in the answer.
      if (entry.epoch === epoch) entry.heard = { status, error: undefined, answeredAtMs: askedAtMs };
    } catch (error) {
      const { status, answeredAtMs = 0 } = entry.heard ?? {};
      if (entry.epoch === epoch) entry.heard = { status, error: messageOf(error), answeredAtMs };
    }
    entry.isAsking = false;
    if (this.#entries.get(launcher.podUID) === entry) this.#onNews(launcher.key);
  }

  /** What was known before is so no more, whether an answer comes or not. */
  async #say(launcher: Launcher, call: () => Promise<MigrationStatus>): Promise<void> {
    const entry = this.#entry(launcher.podUID);
    entry.epoch += 1;
    const askedAtMs = this.#clock.now();
    const before = entry.heard?.status;
    entry.heard = { status: before, error: "it was told something and has not answered yet", answeredAtMs: 0 };
    const { epoch } = entry;
    const status = await call();
    if (entry.epoch === epoch) entry.heard = { status, error: undefined, answeredAtMs: askedAtMs };
    this.#onNews(launcher.key);
  }
}
