import type { InterfaceLimits } from "../../api/machine-config.ts";
import { TokenBucket } from "../limits/token-bucket.ts";

const BITS_PER_BYTE = 8;

/** So many packets and bits a second in one direction of a link. Times are those of performance.now(). */
export class LinkLimiter {
  readonly #packets: TokenBucket | null;
  readonly #bits: TokenBucket | null;

  constructor(limits: InterfaceLimits, nowMs: number) {
    const bucket = (perSecond: number | undefined) => (perSecond ? new TokenBucket(perSecond, nowMs) : null);
    this.#packets = bucket(limits.packetsPerSecond);
    this.#bits = bucket(limits.bitsPerSecond);
  }

  /** How long until the next frame may go; 0 when it may now. Its length counts when it is taken. */
  delayMs(nowMs: number): number {
    return Math.max(this.#packets?.delayMs(1, nowMs) ?? 0, this.#bits?.delayMs(1, nowMs) ?? 0);
  }

  take(lengthBytes: number, nowMs: number): void {
    this.#packets?.take(1, nowMs);
    this.#bits?.take(lengthBytes * BITS_PER_BYTE, nowMs);
  }
}
