import type { DiskLimits } from "../../api/machine-config.ts";
import { TokenBucket } from "../limits/token-bucket.ts";
import type { IoVector } from "./io-vector.ts";
import type { IoCompletion, Storage } from "./storage.ts";
import { StorageLayer } from "./storage-layer.ts";

const ECANCELED = 125;

interface Waiting {
  readonly bytes: number;
  readonly completion: IoCompletion;
  readonly start: () => void;
}

/**
 * A disk that does so many requests and bytes a second, in the order they come. A flush counts for nothing: what it is
 * about has been counted.
 */
export class LimitedDisk extends StorageLayer {
  readonly #now: () => number;
  readonly #requests: TokenBucket | null;
  readonly #bytes: TokenBucket | null;
  #waiting: Waiting[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(storage: Storage, limits: DiskLimits, now: () => number = () => performance.now()) {
    super(storage);
    const bucket = (perSecond: number | undefined) => (perSecond ? new TokenBucket(perSecond, now()) : null);
    this.#now = now;
    this.#requests = bucket(limits.requestsPerSecond);
    this.#bytes = bucket(limits.bytesPerSecond);
  }

  override read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    if (this.#mayGo(vector.lengthBytes)) this.below.read(offsetBytes, vector, completion);
    else this.#wait(vector.lengthBytes, completion, () => this.below.read(offsetBytes, vector, completion));
  }

  override write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    if (this.#mayGo(vector.lengthBytes)) this.below.write(offsetBytes, vector, completion);
    else this.#wait(vector.lengthBytes, completion, () => this.below.write(offsetBytes, vector, completion));
  }

  /** No bytes are moved. */
  override discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    if (this.#mayGo(0)) this.below.discard(offsetBytes, lengthBytes, completion);
    else this.#wait(0, completion, () => this.below.discard(offsetBytes, lengthBytes, completion));
  }

  /** Counted as if they were written, which they are where the storage has no faster way. */
  override writeZeroes(offsetBytes: number, lengthBytes: number, mayUnmap: boolean, completion: IoCompletion): void {
    const start = () => this.below.writeZeroes(offsetBytes, lengthBytes, mayUnmap, completion);
    if (this.#mayGo(lengthBytes)) start();
    else this.#wait(lengthBytes, completion, start);
  }

  override hurry(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { start } of waiting) start();
    super.hurry();
  }

  /** What has not started fails. */
  override abandon(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { completion } of waiting) completion.completed(ECANCELED);
    super.abandon();
  }

  #mayGo(bytes: number): boolean {
    return this.#waiting.length === 0 && this.#take(bytes);
  }

  #take(bytes: number): boolean {
    const now = this.#now();
    if (this.#delayMs(bytes, now) > 0) return false;
    this.#requests?.take(1, now);
    this.#bytes?.take(bytes, now);
    return true;
  }

  #delayMs(bytes: number, now: number): number {
    return Math.max(this.#requests?.delayMs(1, now) ?? 0, this.#bytes?.delayMs(bytes, now) ?? 0);
  }

  #wait(bytes: number, completion: IoCompletion, start: () => void): void {
    this.#waiting.push({ bytes, completion, start });
    this.#startLater();
  }

  #startWaiting(): void {
    this.#timer = undefined;
    for (let first = this.#waiting[0]; first && this.#take(first.bytes); first = this.#waiting[0]) {
      this.#waiting.shift();
      first.start();
    }
    this.#startLater();
  }

  #startLater(): void {
    const first = this.#waiting[0];
    if (first) this.#timer ??= setTimeout(() => this.#startWaiting(), this.#delayMs(first.bytes, this.#now()));
  }
}
