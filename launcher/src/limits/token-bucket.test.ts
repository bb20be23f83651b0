import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { TokenBucket } from "./token-bucket.ts";

/** Takes `amount` as soon as it may, `times` over; answers when the last was taken. */
function takeAll(bucket: TokenBucket, amount: number, times: number, startMs = 0): number {
  let nowMs = startMs;
  for (let i = 0; i < times; i++) {
    for (let delay = bucket.delayMs(amount, nowMs); delay > 0; delay = bucket.delayMs(amount, nowMs)) nowMs += delay;
    bucket.take(amount, nowMs);
  }
  return nowMs;
}

describe("a token bucket", () => {
  it("gives a tenth of a second's worth at once, then its rate", () => {
    const bucket = new TokenBucket(1000, 0);
    expect(takeAll(bucket, 1, 100)).toBe(0);
    expect(takeAll(bucket, 1, 1000)).toBeGreaterThanOrEqual(999);
  });

  it("does not save up what was not used", () => {
    const bucket = new TokenBucket(1000, 0);
    expect(takeAll(bucket, 1, 100, 60_000)).toBe(60_000);
    expect(bucket.delayMs(1, 60_000)).toBeGreaterThan(0);
  });

  it("lets what is larger than a burst through, and has it paid for after", () => {
    const bucket = new TokenBucket(1000, 0);
    bucket.take(5000, 0);
    expect([bucket.delayMs(1, 0), bucket.delayMs(100, 0), bucket.delayMs(5000, 0)]).toEqual([4901, 5000, 5000]);
    expect(bucket.delayMs(1, 4000)).toBe(901);
    expect(bucket.delayMs(1, 4901)).toBe(0);
  });

  it("works below one a second", () => {
    const bucket = new TokenBucket(0.5, 0);
    expect(takeAll(bucket, 1, 3)).toBeGreaterThanOrEqual(4000);
  });

  it("gives nothing for a clock that goes back", () => {
    const bucket = new TokenBucket(1000, 1000);
    bucket.take(200, 1000);
    expect(bucket.delayMs(1, 500)).toBe(101);
    expect(bucket.delayMs(1, 1000)).toBe(101);
  });

  it("never gives more than its rate, a burst and the last one", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100_000 }),
        fc.array(fc.integer({ min: 1, max: 50_000 }), { minLength: 1, maxLength: 200 }),
        (perSecond, amounts) => {
          const bucket = new TokenBucket(perSecond, 0);
          let nowMs = 0;
          let taken = 0;
          for (const amount of amounts) {
            for (let delay = bucket.delayMs(amount, nowMs); delay > 0; delay = bucket.delayMs(amount, nowMs))
              nowMs += delay;
            bucket.take(amount, nowMs);
            taken += amount;
            const burst = Math.max(1, perSecond / 10);
            const debt = Math.max(0, amount - burst);
            expect(taken).toBeLessThanOrEqual(burst + (nowMs * perSecond) / 1000 + debt + 1e-3);
          }
        },
      ),
      { numRuns: 100 },
    );
  });
});
