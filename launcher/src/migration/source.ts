import type {
  HandOverDecision,
  MigrationProgress,
  MigrationRequest,
  MigrationResult,
  MigrationStatus,
  SourcePhase as Phase,
} from "../../api/migration.ts";
import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import { DirtyTracking } from "../machine/dirty-tracking.ts";
import type { MovableMachine } from "../machine/movable-machine.ts";
import { PAGE_SIZE } from "../memory/dirty-bitmap.ts";
import type { BlockBitmap } from "../storage/block-bitmap.ts";
import { within } from "../sys/within.ts";
import { type ConsoleHistory, encodeState } from "./codec/snapshot-codec.ts";
import { ControlLink } from "./control-link.ts";
import { Convergence } from "./convergence.ts";
import { Phases } from "./handover/phases.ts";
import { type SourceEvent, sourceTransitions } from "./handover/source-states.ts";
import { StallWatch } from "./heartbeat.ts";
import { ImageDigests } from "./image-digests.ts";
import { MIGRATION_LIMITS, type MigrationLimits } from "./limits.ts";
import { MemorySender } from "./memory-sender.ts";
import { MigrationError } from "./migration-error.ts";
import { type Frame, type FrameName, type PayloadOf, PROTOCOL_VERSION } from "./protocol.ts";
import { SentDisks } from "./sent-disks.ts";
import { connectToPeer, type MachineTls } from "./tls.ts";
import { ReadyWorkers } from "./worker/worker-thread.ts";

/** For the disks to come to rest; the guest stands still meanwhile. */
const REST_LIMIT_MS = 5_000;
/** For the target to say why it closed a memory connection. */
const REASON_LIMIT_MS = 1_000;
/** What of the downtime is left for the last pass, beside halting, state and resuming. */
const FIXED_COST_MS = 30;

export interface SourceParts {
  readonly machine: MovableMachine;
  readonly uid: string;
  readonly launcherVersion: string;
  readonly consoles: () => ConsoleHistory;
  readonly tls: MachineTls;
  readonly log: Logger;
  /** MIGRATION_LIMITS when absent. */
  readonly limits?: MigrationLimits;
}

export type MigrationPlan = Required<Omit<MigrationRequest, "id">> & Pick<MigrationRequest, "id">;

/** What has to be sent: a bit for each page of memory, and for each block of each disk that is copied. */
interface Dirty {
  readonly memory: SharedArrayBuffer;
  readonly disks: readonly BlockBitmap[];
}

/** One migration away from here. */
export class MigrationSource {
  readonly #parts: SourceParts;
  readonly #plan: MigrationPlan;
  readonly #limits: MigrationLimits;
  readonly #phases = new Phases<Phase, SourceEvent>(sourceTransitions, "Connecting");
  readonly #tracking: DirtyTracking;
  readonly #startedMs = performance.now();
  /** They load while the target is asked. */
  readonly #workers: ReadyWorkers;
  readonly #abort = new AbortController();
  #convergence: Convergence | null = null;
  #sender: MemorySender | null = null;
  #disks: SentDisks | null = null;
  #images: ImageDigests | null = null;
  #link: ControlLink | null = null;
  readonly #waiting = new Map<FrameName, (frame: Frame) => void>();
  /** Frames that came before somebody waited for them. */
  #early: Frame[] = [];
  readonly #stallWatch: StallWatch;
  /** What the target said last of how far it is, see the protocol's Alive. */
  #targetWork = 0;
  #message = "connecting to the target";
  #result: MigrationResult | null = null;
  #rounds = 0;
  /** What was dirty when the last pass but one ended. */
  #leftover: Dirty = { memory: new SharedArrayBuffer(0), disks: [] };
  /** Set while only the answer to Commit is waited for. */
  #lostLink: (() => void) | null = null;
  /** Settled when the source is Gone, Failed or Undecided. */
  readonly settled: Promise<void>;

  constructor(parts: SourceParts, plan: MigrationPlan) {
    this.#parts = parts;
    this.#plan = plan;
    this.#limits = parts.limits ?? MIGRATION_LIMITS;
    this.#stallWatch = new StallWatch(this.#limits);
    const { memory, vmFd } = parts.machine.memory;
    this.#tracking = new DirtyTracking(vmFd, memory);
    this.#workers = new ReadyWorkers(plan.connections);
    this.settled = this.#run();
  }

  get phase(): Phase {
    return this.#phases.current;
  }

  status(): MigrationStatus {
    return {
      role: "source",
      ...(this.#plan.id !== undefined && { id: this.#plan.id }),
      phase: this.#phases.current,
      message: this.#message,
      progress: this.#progress(),
      ...(this.#result && { result: this.#result }),
    };
  }

  /** Rejects with MigrationError when Commit was sent already. */
  async cancel(): Promise<void> {
    if (!this.#phases.may("failed")) {
      if (this.phase === "Failed") return;
      throw new MigrationError(`it is too late to cancel: the migration is ${this.phase}`);
    }
    this.#abort.abort(new MigrationError("cancelled"));
    await this.settled;
    if (this.phase !== "Failed") throw new MigrationError(`it was too late to cancel: the migration is ${this.phase}`);
  }

  /** Of whoever sees both sides. Rejects with MigrationError in phases where nothing is to be decided. */
  async decide(winner: HandOverDecision): Promise<void> {
    const event = ({ source: "decidedSource", target: "decidedTarget", neither: "decidedNeither" } as const)[winner];
    if (!this.#phases.may(event))
      throw new MigrationError(`there is nothing to decide so: the migration is ${this.phase}`);
    const before = this.phase;
    if (winner === "source" && before === "Undecided") this.#parts.machine.claimDisks();
    this.#phases.take(event);
    if (this.phase === before) return;
    this.#note(`decided: ${winner}`);
    if (this.phase === "Failed") this.#goOnHere();
    else
      await this.#parts.machine.leave(
        "Migrated",
        winner === "target" ? GONE : "the machine starts afresh, as was decided",
      );
  }

  async #run(): Promise<void> {
    const deadline = setTimeout(
      () => this.#abort.abort(new MigrationError(`not done within ${this.#plan.deadlineMs} ms`)),
      this.#plan.deadlineMs,
    );
    try {
      await this.#connect();
      await this.#copy();
      await this.#handOver();
    } catch (error) {
      await this.#failed(error);
    } finally {
      clearTimeout(deadline);
    }
  }

  async #connect(): Promise<void> {
    const { machine, uid, launcherVersion, tls } = this.#parts;
    const { address, port, connections, bandwidthBytesPerSecond } = this.#plan;
    const socket = await this.#orAborted(connectToPeer(address, port, tls));
    this.#link = new ControlLink(socket, {
      received: (frame) => this.#received(frame),
      lost: (why) => this.#lost(why),
    });
    this.#link.send("hello", {
      version: PROTOCOL_VERSION,
      uid,
      launcherVersion,
      memoryBytes: machine.memory.memory.sizeBytes,
      connections,
      processors: machine.processors().map((cpuid) => ({ cpuid })),
    });
    this.#link.keepAlive(this.#limits, () => {
      this.#noticeStall();
      // What a source does says nothing to its target.
      return 0;
    });
    const { token, memoryPort } = await this.#answer("welcome");
    this.#disks = new SentDisks((await this.#answer("wantDisks")).disks, machine.disks);
    this.#sender = new MemorySender({
      workers: this.#workers,
      memory: machine.memory,
      tracking: this.#tracking,
      disks: this.#disks.tasks,
      address,
      port: memoryPort,
      tls,
      token,
      connections,
      bytesPerSecond: bandwidthBytesPerSecond,
      onBroken: (error) => this.#abortSoon(new MigrationError(error.message, { cause: error })),
    });
    await this.#orAborted(this.#sender.connected);
    this.#phases.take("welcomed");
    const count = this.#disks.tasks.length;
    this.#note(`copying memory${count > 0 ? ` and ${count} disks` : ""} while the guest runs`);
  }

  /** Passes over memory until what is left fits into the time that the guest may stand still. */
  async #copy(): Promise<void> {
    const { machine } = this.#parts;
    const { maxDowntimeMs, autoConverge } = this.#plan;
    const convergence = new Convergence({ budgetMs: Math.max(1, maxDowntimeMs - FIXED_COST_MS), autoConverge });
    this.#convergence = convergence;
    this.#tracking.start();
    const { sizeBytes } = machine.memory.memory;
    let dirty: Dirty = { memory: fullBitmap(sizeBytes), disks: this.#disks?.start() ?? [] };
    const imagesMatch = this.#compareImages();
    imagesMatch.catch(() => {});
    for (;;) {
      const startedMs = performance.now();
      const sentBytes = await this.#pass(dirty);
      const tookMs = performance.now() - startedMs;
      // What comes to light now costs no downtime.
      await imagesMatch;
      dirty = { memory: emptyBitmap(sizeBytes), disks: this.#disks?.emptyBitmaps() ?? [] };
      const dirtyBytes = this.#collect(dirty);
      const verdict = convergence.passed({ sentBytes, tookMs, dirtyBytes });
      machine.throttle(verdict.throttle);
      if (verdict.isLast) {
        this.#leftover = dirty;
        return;
      }
    }
  }

  /** Adds what changed since to `dirty`; answers how many bytes are to be sent then. */
  #collect({ memory, disks }: Dirty): number {
    const pages = this.#tracking.collect(new Uint32Array(memory));
    this.#disks?.collect(disks);
    return pages * PAGE_SIZE + sumOf(disks);
  }

  /**
   * A link whose control connection lives may hold up memory all the same, and a thread of either side may hang. While the
   * guest stands still there is another limit.
   */
  #noticeStall(): void {
    const sender = this.#sender;
    const isWatched = this.phase === "Connecting" || this.phase === "Copying";
    if (!isWatched || sender?.isPacing || this.#images?.isAtWork) return;
    const marks = [this.#rounds, sender?.remainingBytes ?? 0, sender?.diskRemainingBytes ?? 0, this.#targetWork];
    if (this.#stallWatch.isStalled(marks)) {
      const { idleBeats, beatMs } = this.#limits;
      this.#abort.abort(new MigrationError(`the target has got nothing more for ${idleBeats * beatMs} ms`));
    }
  }

  /** An overlay is worth nothing over another image. */
  async #compareImages(): Promise<void> {
    const images = this.#disks?.images ?? [];
    if (images.length === 0) return;
    this.#images = new ImageDigests(images);
    this.#link?.send("images", { images: await this.#orAborted(this.#images.done) });
    await this.#answer("imagesMatch");
  }

  async #pass({ memory, disks }: Dirty): Promise<number> {
    const sender = this.#sender;
    if (!sender) throw new TypeError("no connections");
    const pass = this.#rounds++;
    const sentBefore = sender.sentBytes + sender.diskSentBytes;
    const contents = { bitmap: memory, disks: disks.map(({ buffer }) => buffer), diskBytes: sumOf(disks) };
    const received = this.#answer("passReceived");
    await this.#orAborted(Promise.all([sender.send(pass, contents), received]));
    if ((await received).pass !== pass) throw new MigrationError("the target confirms another pass than was sent");
    return sender.sentBytes + sender.diskSentBytes - sentBefore;
  }

  async #handOver(): Promise<void> {
    const { machine } = this.#parts;
    // What is written now is not written while the guest stands still.
    await this.#orAborted(machine.flushDisks());
    const times = await this.#sendAll();
    // From here to the message there is no other turn: whoever cancels came before, or is too late.
    this.#abort.signal.throwIfAborted();
    const running = this.#answerOfCommit();
    machine.releaseDisks();
    this.#phases.take("prepared");
    this.#link?.send("commit", {});
    const { resumeMs } = await running;
    this.#phases.take("running");
    const endedMs = performance.now();
    this.#result = {
      totalMs: round(endedMs - this.#startedMs),
      downtimeMs: round(endedMs - times.haltedMs),
      split: { ...times.split, resumeMs },
      sentBytes: this.#sender?.sentBytes ?? 0,
      diskSentBytes: this.#sender?.diskSentBytes ?? 0,
      rounds: this.#rounds,
    };
    this.#note(GONE);
    this.#parts.log.info("machine is migrated", { reason: "Migrated", ...this.#result.split, ...flat(this.#result) });
    this.#close();
    await machine.leave("Migrated", GONE);
  }

  /** Halts the guest, and resolves when the target has all of it. */
  async #sendAll(): Promise<{ haltedMs: number; split: Omit<MigrationResult["split"], "resumeMs"> }> {
    const { machine, consoles } = this.#parts;
    const limitMs = this.#plan.maxDowntimeMs + this.#limits.standstillMs;
    const late = () => new MigrationError(`the guest stood still for ${limitMs} ms, and the target has not got all`);
    const limit = setTimeout(() => this.#abort.abort(late()), limitMs);
    try {
      const haltedMs = performance.now();
      await machine.freeze(REST_LIMIT_MS);
      machine.throttle(0);
      this.#phases.take("frozen");
      this.#note("the guest stands still for the last pass");
      this.#abort.signal.throwIfAborted();
      await this.#orAborted(machine.flushDisks());
      const restMs = performance.now();
      const state = encodeState(machine.save(), consoles());
      const stateMs = performance.now();
      this.#collect(this.#leftover);
      this.#link?.send("state", { pass: this.#rounds, state });
      const prepared = this.#answer("prepared");
      prepared.catch(() => {});
      await this.#pass(this.#leftover);
      const passedMs = performance.now();
      const { loadMs } = await prepared;
      const [haltMs, lastPassMs, savedMs] = [restMs - haltedMs, passedMs - stateMs, stateMs - restMs];
      const split = { haltMs: round(haltMs), lastPassMs: round(lastPassMs), stateMs: round(savedMs), loadMs };
      return { haltedMs, split };
    } finally {
      clearTimeout(limit);
    }
  }

  async #failed(error: unknown): Promise<void> {
    const why = errorText(error);
    if (this.phase === "Committed") {
      this.#phases.take("linkLost");
      this.#note(`no answer to the last message (${why}); it must be decided which side the machine is on`);
      this.#close();
      return;
    }
    if (!this.#phases.may("failed")) {
      this.#parts.log.error("migration failed after its end", { reason: "MigrationFailed", phase: this.phase, why });
      return;
    }
    const wasFrozen = this.phase === "HandingOver";
    this.#phases.take("failed");
    this.#link?.send("abort", { message: why.slice(0, 1000) });
    this.#note(`${why}; the machine runs on here`);
    this.#goOnHere(wasFrozen);
  }

  #goOnHere(isFrozen = true): void {
    const { machine } = this.#parts;
    machine.throttle(0);
    try {
      this.#tracking.stop();
    } catch (error) {
      // The machine may have ended, which is why it failed.
      this.#parts.log.warn("dirty log stays on", { reason: "MigrationCleanup", why: errorText(error) });
    }
    this.#disks?.stop();
    if (isFrozen) machine.thaw();
    this.#close();
  }

  #close(): void {
    this.#workers[Symbol.dispose]();
    this.#images?.[Symbol.dispose]();
    const disks = this.#disks;
    void (this.#sender?.close() ?? Promise.resolve()).then(() => disks?.[Symbol.dispose]());
    void this.#link?.end();
  }

  #received(frame: Frame): void {
    if (frame.name === "refused") {
      this.#abort.abort(new MigrationError(`the target refuses: ${frame.payload.message}`));
      return;
    }
    if (frame.name === "alive") {
      this.#targetWork = frame.payload.work;
      return;
    }
    const waiting = this.#waiting.get(frame.name);
    if (waiting) {
      this.#waiting.delete(frame.name);
      waiting(frame);
    } else if (this.#early.length < 4) this.#early.push(frame);
    else throw new MigrationError(`the target sends ${frame.name} out of turn`);
  }

  /** A target that refuses what came by a memory connection closes that, and says why by the other one. */
  #abortSoon(error: MigrationError): void {
    setTimeout(() => this.#abort.abort(error), REASON_LIMIT_MS).unref();
  }

  #lost(why: string): void {
    this.#abort.abort(new MigrationError(`the connection to the target broke: ${why}`));
    this.#lostLink?.();
  }

  /** The payload of the next frame of that name. */
  async #answer<Name extends FrameName>(name: Name): Promise<PayloadOf<Name>> {
    return await this.#orAborted(this.#next(name));
  }

  async #next<Name extends FrameName>(name: Name): Promise<PayloadOf<Name>> {
    const early = this.#early.findIndex((frame) => frame.name === name);
    const [found] = early >= 0 ? this.#early.splice(early, 1) : [];
    const frame = found ?? (await this.#wait(name));
    return frame.payload as PayloadOf<Name>;
  }

  #wait(name: FrameName): Promise<Frame> {
    const { promise, resolve } = Promise.withResolvers<Frame>();
    this.#waiting.set(name, resolve);
    return promise;
  }

  /** After Commit nothing but the answer or the end of the link counts: not even who cancels. */
  #answerOfCommit(): Promise<PayloadOf<"running">> {
    const lost = new Promise<never>((_, reject) => {
      this.#lostLink = () => reject(new MigrationError("the connection broke"));
    });
    const { answerMs } = this.#limits;
    const late = () => new MigrationError(`nothing within ${answerMs} ms`);
    return within(answerMs, Promise.race([this.#next("running"), lost]), late);
  }

  async #orAborted<Value>(work: Promise<Value>): Promise<Value> {
    const { signal } = this.#abort;
    signal.throwIfAborted();
    const { promise, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([work, promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #note(message: string): void {
    this.#message = message;
    this.#parts.log.info("migration", { reason: "Migration", phase: this.phase, message });
  }

  #progress(): MigrationProgress {
    const last = this.#convergence?.last;
    return {
      rounds: this.#rounds,
      sentBytes: this.#sender?.sentBytes ?? 0,
      remainingBytes: this.#sender?.remainingBytes ?? this.#parts.machine.memory.memory.sizeBytes,
      diskSentBytes: this.#sender?.diskSentBytes ?? 0,
      diskRemainingBytes: this.#sender?.diskRemainingBytes ?? 0,
      bytesPerSecond: Math.round(last?.bytesPerSecond ?? 0),
      dirtyBytesPerSecond: Math.round(last?.dirtyBytesPerSecond ?? 0),
      throttle: this.#convergence?.throttle ?? 0,
    };
  }
}

const GONE = "the machine goes on in the target";

function flat({ totalMs, downtimeMs, sentBytes, diskSentBytes, rounds }: MigrationResult) {
  return { totalMs, downtimeMs, sentBytes, diskSentBytes, rounds };
}

function sumOf(disks: readonly BlockBitmap[]): number {
  return disks.reduce((sum, { markedBytes }) => sum + markedBytes, 0);
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}

function emptyBitmap(sizeBytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(Math.ceil(sizeBytes / PAGE_SIZE / 64) * 8);
}

function fullBitmap(sizeBytes: number): SharedArrayBuffer {
  const bitmap = emptyBitmap(sizeBytes);
  new Uint8Array(bitmap).fill(0xff);
  return bitmap;
}
