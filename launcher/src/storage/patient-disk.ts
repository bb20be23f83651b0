import type { IoVector } from "./io-vector.ts";
import type { IoCompletion, Storage } from "./storage.ts";
import { StorageLayer } from "./storage-layer.ts";

const ENOSPC = 28;
const EDQUOT = 122;
const ECANCELED = 125;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;

export interface RoomListener {
  /** The first operation waits for room: until it has some, the guest had better not go on. */
  full(): void;
  /** None waits any more: they are done, failed otherwise, or were given up. */
  room(): void;
}

/**
 * A disk whose writes wait where its storage is full, instead of failing: they are tried again until there is room.
 * Other errors pass, and so does that of a flush: the kernel tells it once, of data that may be lost by then, so that
 * trying again would hide it.
 */
export class PatientDisk extends StorageLayer {
  /** Set by who can hold the guest. */
  listener: RoomListener | null = null;
  readonly #spare: Attempt[] = [];
  #waiting: Attempt[] = [];
  /** Operations that have waited and have not ended: those that wait, and those that are tried again. */
  #heldCount = 0;
  /** Operations of an epoch before do not wait: who asked for them has gone. */
  #epoch = 0;
  #delayMs = FIRST_RETRY_MS;
  #timer: NodeJS.Timeout | undefined;

  constructor(storage: Storage) {
    super(storage);
  }

  /** True while an operation waits for room. */
  get isFull(): boolean {
    return this.#heldCount > 0;
  }

  override write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#newAttempt().write(offsetBytes, vector, completion);
  }

  /** A hint: where the file system has no room for the hole's record, it is not taken. */
  override discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.below.discard(offsetBytes, lengthBytes, {
      completed: (errno) => completion.completed(saysFull(errno) ? 0 : errno),
    });
  }

  override writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void {
    this.#newAttempt().writeZeroes(offsetBytes, lengthBytes, mayUnmap, completion);
  }

  /** Tries at once what waits for room. */
  retry(): void {
    this.#delayMs = FIRST_RETRY_MS;
    this.#retryAll();
  }

  /** Whoever asked for what is under way has gone: what waits for room fails, and what comes back full does too. */
  override abandon(): void {
    this.#epoch++;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const attempt of waiting) this.#finish(attempt, ECANCELED);
    super.abandon();
  }

  #newAttempt(): Attempt {
    const attempt = this.#spare.pop() ?? new Attempt(this.below, (ended, errno) => this.#ended(ended, errno));
    attempt.epoch = this.#epoch;
    return attempt;
  }

  #ended(attempt: Attempt, errno: number): void {
    if (!saysFull(errno)) this.#finish(attempt, errno);
    else if (attempt.epoch === this.#epoch) this.#hold(attempt);
    else this.#finish(attempt, ECANCELED);
  }

  #hold(attempt: Attempt): void {
    this.#waiting.push(attempt);
    this.#timer ??= setTimeout(() => {
      this.#delayMs = Math.min(2 * this.#delayMs, LAST_RETRY_MS);
      this.#retryAll();
    }, this.#delayMs);
    if (attempt.isHeld) return;
    attempt.isHeld = true;
    this.#heldCount++;
    if (this.#heldCount === 1) this.listener?.full();
  }

  #retryAll(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const attempt of waiting) attempt.start();
  }

  #finish(attempt: Attempt, errno: number): void {
    const wasHeld = attempt.isHeld;
    const completion = attempt.end();
    this.#spare.push(attempt);
    if (wasHeld) this.#heldCount--;
    completion?.completed(errno);
    if (!wasHeld || this.#heldCount > 0) return;
    this.#delayMs = FIRST_RETRY_MS;
    this.listener?.room();
  }
}

function saysFull(errno: number): boolean {
  return errno === ENOSPC || errno === EDQUOT;
}

/** One write, or range of zeroes, as often as it takes. Used again and again. */
class Attempt implements IoCompletion {
  epoch = 0;
  /** It has waited for room, or does. */
  isHeld = false;
  readonly #storage: Storage;
  readonly #ended: (attempt: Attempt, errno: number) => void;
  /** Of the whole, whatever is left of it. */
  #endOffsetBytes = 0;
  /** Null for zeroes. */
  #vector: IoVector | null = null;
  #zeroBytes = 0;
  #mayUnmap = false;
  #completion: IoCompletion | null = null;

  constructor(storage: Storage, ended: (attempt: Attempt, errno: number) => void) {
    this.#storage = storage;
    this.#ended = ended;
  }

  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#endOffsetBytes = offsetBytes + vector.lengthBytes;
    this.#vector = vector;
    this.#completion = completion;
    this.start();
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void {
    this.#endOffsetBytes = offsetBytes + lengthBytes;
    this.#zeroBytes = lengthBytes;
    this.#mayUnmap = mayUnmap;
    this.#completion = completion;
    this.start();
  }

  /** What was written before it failed is no longer in the vector. */
  start(): void {
    const vector = this.#vector;
    if (vector) this.#storage.write(this.#endOffsetBytes - vector.lengthBytes, vector, this);
    else this.#storage.writeZeroes(this.#endOffsetBytes - this.#zeroBytes, this.#zeroBytes, this.#mayUnmap, this);
  }

  completed(errno: number): void {
    this.#ended(this, errno);
  }

  /** Makes it ready for the next; answers whom to tell. */
  end(): IoCompletion | null {
    const completion = this.#completion;
    this.isHeld = false;
    this.#vector = null;
    this.#completion = null;
    return completion;
  }
}
