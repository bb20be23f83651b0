import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { PauseAborted } from "./control-surface.ts";
import { Throttle, type ThrottledGuest } from "./throttle.ts";

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

/** Counts how long it stood still because of the throttle, in milliseconds of the fake clock. */
class FakeGuest implements ThrottledGuest {
  /** As others want it. */
  wanted = true;
  isHalted = false;
  halts = 0;
  stoodMs = 0;
  /** Why the next halt does not come about. */
  refusal: Error | null = null;
  #since = 0;

  isRunning = () => this.wanted;

  halt(): Promise<void> {
    const { refusal } = this;
    this.refusal = null;
    if (refusal) return Promise.reject(refusal);
    this.halts++;
    this.isHalted = true;
    this.#since = Date.now();
    return Promise.resolve();
  }

  run(): void {
    if (this.isHalted) this.stoodMs += Date.now() - this.#since;
    this.isHalted = false;
  }
}

const passes = (ms: number) => jest.advanceTimersByTimeAsync(ms);

describe("a guest that is throttled", () => {
  it.each([0.2, 0.5, 0.9, 0.99])("stands still for %d of the time, in short pieces", async (share) => {
    const guest = new FakeGuest();
    new Throttle(guest).set(share);
    await passes(10_000);
    // A clock of whole milliseconds rounds each piece up.
    expect(guest.halts).toBeGreaterThan(450);
    expect(guest.stoodMs / 10_000).toBeGreaterThan(share - 0.05);
    expect(guest.stoodMs / 10_000).toBeLessThan(share + 0.05);
  });

  it("goes on for good once it is let go, also in the middle of a piece", async () => {
    const guest = new FakeGuest();
    const throttle = new Throttle(guest);
    throttle.set(0.9);
    await passes(5);
    expect([guest.isHalted, throttle.share]).toEqual([true, 0.9]);
    throttle.set(0);
    await passes(20);
    expect([guest.isHalted, throttle.share]).toEqual([false, 0]);
    const { halts } = guest;
    await passes(10_000);
    expect(guest.halts).toBe(halts);
    expect(jest.getTimerCount()).toBe(0);
  });

  it("is held back by one hand, however often the share changes", async () => {
    const guest = new FakeGuest();
    const throttle = new Throttle(guest);
    for (const share of [0.2, 0.3, 0, 0.4, 0.5]) throttle.set(share);
    expect(jest.getTimerCount()).toBeLessThanOrEqual(1);
    await passes(10_000);
    expect(guest.halts).toBeLessThan(510);
    expect(guest.stoodMs / 10_000).toBeCloseTo(0.5, 1);
  });

  it("stays as it is where somebody else stopped it: it is neither halted nor let run", async () => {
    const guest = new FakeGuest();
    const throttle = new Throttle(guest);
    throttle.set(0.5);
    await passes(5);
    guest.wanted = false;
    const { halts } = guest;
    await passes(1_000);
    expect([guest.isHalted, guest.halts]).toEqual([true, halts]);
    guest.wanted = true;
    guest.run();
    await passes(1_000);
    expect(guest.halts).toBeGreaterThan(halts + 40);
  });

  it("is held back again when a halt was made void by who let it run", async () => {
    const guest = new FakeGuest();
    guest.refusal = new PauseAborted();
    new Throttle(guest).set(0.5);
    await passes(1_000);
    expect(guest.halts).toBeGreaterThan(40);
  });

  it("always gets some of the time, and a share below zero is none", async () => {
    const guest = new FakeGuest();
    const throttle = new Throttle(guest);
    throttle.set(7);
    expect(throttle.share).toBe(0.99);
    throttle.set(-1);
    expect(throttle.share).toBe(0);
    await passes(1_000);
    expect(guest.isHalted).toBe(false);
  });
});
