import type {
  AttachDiskRequest,
  AttachInterfaceRequest,
  LauncherStatus,
  MachineState,
} from "../../../../launcher/api/control.ts";
import type { LinkState } from "../../../../launcher/api/machine-config.ts";
import type { HandOverDecision, MigrationStatus } from "../../../../launcher/api/migration.ts";
import { LauncherError, type LauncherTarget } from "../../launcher-client/launcher-client.ts";
import { type Clock, sleep } from "../../runtime/clock.ts";
import { messageOf } from "../../runtime/errors.ts";
import { RateLimiter } from "../../runtime/rate-limit.ts";
import type { LauncherFacts } from "./observation.ts";

/** The part of the launcher client that is needed here. */
export interface LauncherCalls {
  status(target: LauncherTarget, signal?: AbortSignal): Promise<LauncherStatus>;
  waitFor(
    target: LauncherTarget,
    states: readonly MachineState[],
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<LauncherStatus>;
  pause(target: LauncherTarget): Promise<LauncherStatus>;
  resume(target: LauncherTarget): Promise<LauncherStatus>;
  resizeDisk(target: LauncherTarget, disk: string, sizeBytes: number): Promise<LauncherStatus>;
  limitOverlay(target: LauncherTarget, disk: string, bytes: number): Promise<LauncherStatus>;
  attachDisk(target: LauncherTarget, disk: AttachDiskRequest): Promise<LauncherStatus>;
  detachDisk(target: LauncherTarget, disk: string): Promise<LauncherStatus>;
  attachInterface(target: LauncherTarget, config: AttachInterfaceRequest): Promise<LauncherStatus>;
  detachInterface(target: LauncherTarget, interfaceName: string): Promise<LauncherStatus>;
  setLink(target: LauncherTarget, interfaceName: string, state: LinkState): Promise<LauncherStatus>;
  migration(target: LauncherTarget): Promise<MigrationStatus>;
  decideMigration(target: LauncherTarget, winner: HandOverDecision): Promise<MigrationStatus>;
}

/** What is asked about one launcher. */
export interface Question extends LauncherTarget {
  readonly podUID: string;
  /** Key of the VirtualMachine in the work queue. */
  readonly key: string;
  readonly readiness: string;
}

interface Entry {
  facts: LauncherFacts;
  readonly key: string;
  /** The question under way, if any. */
  asking: { readonly readiness: string; readonly abort: AbortController } | undefined;
}

const LONG_POLL_MS = 30_000;
/** States in which there is nothing more to wait for. */
const SETTLED: readonly MachineState[] = ["Running", "Paused", "Stopping", "Ended"];
const MIN_RETRY_MS = 25;
const MAX_RETRY_MS = 5_000;
/** A launcher that does not listen yet will in a moment: a machine's start is late by a fifth of that at most. */
const UNREACHABLE_GROWTH = 1.25;
const NOT_YET_GROWTH = 2;
/** An operator that starts has every machine to ask: at once, that is 130 MB for a thousand, and no time for its lease. */
const QUESTIONS_PER_SECOND = 200;
const QUESTIONS_AT_ONCE = 50;

/**
 * What launchers last said of themselves. A question is asked until it is answered, in the background, by a long poll
 * that the launcher answers the moment its guest runs; the answer brings the machine into the work queue. Nothing
 * here outlives the process: a new operator asks again.
 */
export class LauncherMonitor implements Disposable {
  readonly #calls: LauncherCalls;
  readonly #clock: Clock;
  readonly #onAnswer: (key: string) => void;
  readonly #limiter: RateLimiter;
  readonly #entries = new Map<string, Entry>();

  constructor(calls: LauncherCalls, clock: Clock, onAnswer: (key: string) => void) {
    this.#calls = calls;
    this.#clock = clock;
    this.#limiter = new RateLimiter(clock, QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE);
    this.#onAnswer = onAnswer;
  }

  facts(podUID: string): LauncherFacts | undefined {
    return this.#entries.get(podUID)?.facts;
  }

  /** Asks in the background; a question that is already under way goes on. */
  ask(question: Question): void {
    const { podUID, key, readiness } = question;
    const facts: LauncherFacts = {
      podUID,
      askedSinceMs: this.#clock.now(),
      status: undefined,
      answeredAtMs: 0,
      error: undefined,
      readiness: "",
    };
    const entry: Entry = this.#entries.get(podUID) ?? { facts, key, asking: undefined };
    this.#entries.set(podUID, entry);
    if (entry.asking?.readiness === readiness) {
      return;
    }
    entry.asking?.abort.abort();
    const asking = { readiness, abort: new AbortController() };
    entry.asking = asking;
    void this.#pursue(question, entry, asking.abort.signal).finally(() => {
      if (entry.asking === asking) {
        entry.asking = undefined;
      }
    });
  }

  /** Pauses or lets go on; rejects with a LauncherError. */
  async set(kind: "pause" | "resume", question: Question): Promise<void> {
    const status = await this.#calls[kind](question);
    this.#answer(question, this.#entries.get(question.podUID), status);
  }

  /** Has a disk grow; rejects with a LauncherError. */
  async resizeDisk(question: Question, disk: string, sizeBytes: number): Promise<void> {
    const status = await this.#calls.resizeDisk(question, disk, sizeBytes);
    const seenBytes = status.disks?.find((candidate) => candidate.name === disk)?.sizeBytes ?? 0;
    if (seenBytes < sizeBytes) {
      // Not taken in: a launcher that says so again and again would be asked as often.
      const message = `disk ${disk} has ${seenBytes} bytes after it was to grow to ${sizeBytes}`;
      throw new LauncherError(200, "BadAnswer", message);
    }
    this.#answer(question, this.#entries.get(question.podUID), status);
  }

  /** Changes how much an overlay may take; rejects with a LauncherError. */
  async limitOverlay(question: Question, disk: string, bytes: number): Promise<void> {
    const status = await this.#calls.limitOverlay(question, disk, bytes);
    const limitBytes = status.disks?.find((candidate) => candidate.name === disk)?.overlay?.limitBytes;
    if (limitBytes !== bytes) {
      // Not taken in: a launcher that says so again and again would be asked as often.
      const message = `the overlay of disk ${disk} may have ${limitBytes} bytes after it was to be ${bytes}`;
      throw new LauncherError(200, "BadAnswer", message);
    }
    this.#answer(question, this.#entries.get(question.podUID), status);
  }

  /** Gives a disk; rejects with a LauncherError. */
  async attachDisk(question: Question, disk: AttachDiskRequest): Promise<void> {
    const status = await this.#orDoubt(question, () => this.#calls.attachDisk(question, disk));
    if (status.disks?.some(({ name }) => name === disk.name) !== true)
      throw new LauncherError(200, "BadAnswer", `the launcher does not have disk ${disk.name} after it was given`);
    this.#answer(question, this.#entries.get(question.podUID), status);
  }

  /** Asks for a disk; rejects with a LauncherError. */
  async detachDisk(question: Question, disk: string): Promise<void> {
    const status = await this.#orDoubt(question, () => this.#calls.detachDisk(question, disk));
    this.#answer(question, this.#entries.get(question.podUID), status);
  }

  /** Gives an interface; rejects with a LauncherError. */
  async attachInterface(question: Question, config: AttachInterfaceRequest): Promise<void> {
    const status = await this.#orDoubt(question, () => this.#calls.attachInterface(question, config));
    if (status.interfaces?.some(({ name }) => name === config.name) !== true)
      throw new LauncherError(
        200,
        "BadAnswer",
        `the launcher does not have interface ${config.name} after it was given`,
      );
    this.#answer(question, this.#entries.get(question.podUID), status);
  }

  /** Asks for an interface; rejects with a LauncherError. */
  async detachInterface(question: Question, interfaceName: string): Promise<void> {
    const status = await this.#orDoubt(question, () => this.#calls.detachInterface(question, interfaceName));
    this.#answer(question, this.#entries.get(question.podUID), status);
  }

  /** Plugs an interface in or out; rejects with a LauncherError. */
  async setLink(question: Question, interfaceName: string, state: LinkState): Promise<void> {
    const status = await this.#calls.setLink(question, interfaceName, state);
    const link = status.interfaces?.find(({ name }) => name === interfaceName)?.link;
    if (link !== state) {
      // Not taken in: a launcher that says so again and again would be asked as often.
      throw new LauncherError(200, "BadAnswer", `interface ${interfaceName} is ${link} after it was to be ${state}`);
    }
    this.#answer(question, this.#entries.get(question.podUID), status);
  }

  /** What the launcher says of its migration; rejects with a LauncherError. */
  migration(launcher: LauncherTarget): Promise<MigrationStatus> {
    return this.#calls.migration(launcher);
  }

  /** Tells it who the machine is from now on; rejects with a LauncherError. */
  async decideMigration(launcher: LauncherTarget, winner: HandOverDecision): Promise<void> {
    await this.#calls.decideMigration(launcher, winner);
  }

  /** Where no answer comes, what was known of the launcher's devices may be so no more: it is asked before anything else. */
  async #orDoubt<T>({ podUID }: Question, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      const entry = this.#entries.get(podUID);
      const isAnswer = error instanceof LauncherError && error.statusCode !== 0;
      if (entry !== undefined && !isAnswer) entry.facts = { ...entry.facts, status: undefined, readiness: "" };
      throw error;
    }
  }

  /** Forgets a pod that is gone. */
  forget(podUID: string): void {
    this.#entries.get(podUID)?.asking?.abort.abort();
    this.#entries.delete(podUID);
  }

  [Symbol.dispose](): void {
    for (const podUID of [...this.#entries.keys()]) {
      this.forget(podUID);
    }
  }

  async #pursue(question: Question, entry: Entry, signal: AbortSignal): Promise<void> {
    let retryMs = MIN_RETRY_MS;
    for (;;) {
      if (!this.#limiter.tryTake()) {
        await this.#limiter.take(signal);
      }
      if (signal.aborted) {
        return;
      }
      const askedAt = this.#clock.monotonic();
      try {
        const status = await this.#calls.waitFor(question, SETTLED, LONG_POLL_MS, signal);
        if (!signal.aborted) {
          this.#answer(question, entry, status);
        }
        return;
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        const notYet = error instanceof LauncherError && error.isTimeout;
        if (!notYet) {
          this.#noAnswer(entry, messageOf(error));
        } else if (this.#clock.monotonic() - askedAt >= LONG_POLL_MS / 2) {
          retryMs = MIN_RETRY_MS;
          continue;
        }
        // A launcher that does not take its time with "not yet" is not asked in a hot loop either.
        await sleep(this.#clock, retryMs * (0.5 + Math.random() / 2), signal);
        retryMs = Math.min(MAX_RETRY_MS, retryMs * (notYet ? NOT_YET_GROWTH : UNREACHABLE_GROWTH));
      }
    }
  }

  #answer(question: Question, entry: Entry | undefined, status: LauncherStatus): void {
    if (entry === undefined || this.#entries.get(question.podUID) !== entry) {
      return;
    }
    const { podUID, readiness } = question;
    const { askedSinceMs } = entry.facts;
    entry.facts = { podUID, askedSinceMs, status, answeredAtMs: this.#clock.now(), error: undefined, readiness };
    this.#onAnswer(entry.key);
  }

  #noAnswer(entry: Entry, error: string): void {
    const known = entry.facts.error !== undefined;
    entry.facts = { ...entry.facts, error };
    if (!known) {
      this.#onAnswer(entry.key);
    }
  }
}
