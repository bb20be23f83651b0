import { describe, expect, it } from "@jest/globals";
import { PollWindow } from "./poll-window.ts";

const WINDOW_MS = 0.032;
const SOON_MS = 0.05;
const LATE_MS = 1;

/** A window and its clock. */
function setUp(share = 1) {
  const window = new PollWindow({ windowMs: WINDOW_MS, share });
  let now = 0;
  /** Sleeps until work wakes the loop, `ms` after the last. */
  const wokenAfter = (ms: number) => {
    now += ms;
    window.woken(now);
    return window.ms;
  };
  /** Looks until the window is over. */
  const miss = () => {
    now += window.ms;
    window.missed(now, window.ms);
  };
  const findAfter = (ms: number) => {
    now += ms;
    window.found(now, ms);
    return window.ms;
  };
  const mayLook = (lookedMs = 0) => window.mayLook(now, lookedMs);
  return { window, wokenAfter, miss, findAfter, mayLook };
}

describe("the time to look for the next work", () => {
  it("is none at the start, and where work is far between", () => {
    const { wokenAfter, mayLook } = setUp();
    for (let i = 0; i < 100; i++) expect(wokenAfter(LATE_MS)).toBe(0);
    expect(mayLook()).toBe(false);
  });

  it("grows while work comes soon after it was over, up to its limit", () => {
    const { wokenAfter, miss } = setUp();
    wokenAfter(LATE_MS);
    const seen = Array.from({ length: 4 }, () => {
      const ms = wokenAfter(SOON_MS);
      miss();
      return ms;
    });
    expect(seen).toEqual([0.004, 0.008, 0.016, 0.032]);
  });

  it("grows where work is found at its very end, and stays where it is found at once", () => {
    const { wokenAfter, findAfter } = setUp();
    wokenAfter(LATE_MS);
    wokenAfter(SOON_MS);
    expect([0.001, 0.001, 0.003, 0.001, 0.007, 0.015, 0.03].map(findAfter)).toEqual([
      0.004, 0.004, 0.008, 0.008, 0.016, 0.032, 0.032,
    ]);
  });

  it("is none again once work is far between", () => {
    const { wokenAfter, findAfter } = setUp();
    wokenAfter(LATE_MS);
    wokenAfter(SOON_MS);
    findAfter(0.003);
    expect(wokenAfter(LATE_MS)).toBe(0);
  });

  it("is tried ever more seldom where work comes soon, but never soon enough", () => {
    const { wokenAfter, miss } = setUp();
    const tries = Array.from({ length: 2000 }, () => {
      const ms = wokenAfter(SOON_MS);
      if (ms > 0) miss();
      return ms;
    });
    const spent = (some: readonly number[]) => some.reduce((sum, ms) => sum + ms, 0) / (some.length * SOON_MS);
    expect(spent(tries.slice(1000))).toBeLessThan(0.01);
    expect(tries.slice(1000).some((ms) => ms > 0)).toBe(true);
  });

  it("is tried at once again after it has paid", () => {
    const { window, wokenAfter, miss, findAfter } = setUp();
    for (let i = 0; i < 500; i++) if (wokenAfter(SOON_MS) > 0) miss();
    while (window.ms === 0) wokenAfter(SOON_MS);
    findAfter(0.001);
    wokenAfter(LATE_MS);
    expect([wokenAfter(SOON_MS), wokenAfter(SOON_MS)]).toContain(0.004);
  });

  it.each([0.1, 0.5])("is no more than a share of %d of all time, however often work is found", (share) => {
    const { wokenAfter, findAfter, mayLook } = setUp(share);
    wokenAfter(LATE_MS);
    wokenAfter(SOON_MS);
    let looked = 0;
    let slept = 0;
    for (let i = 0; i < 20_000; i++)
      if (mayLook()) {
        findAfter(0.03);
        looked += 0.03;
      } else {
        wokenAfter(0.03);
        slept += 0.03;
      }
    expect(looked / (looked + slept)).toBeGreaterThan(0.9 * share);
    expect(looked / (looked + slept)).toBeLessThan(1.1 * share);
  });

  it("is not taken for one that is too short when it is the share that ended it", () => {
    const { window, wokenAfter, findAfter, mayLook } = setUp(0.2);
    wokenAfter(LATE_MS);
    wokenAfter(SOON_MS);
    while (window.ms < WINDOW_MS) findAfter(window.ms);
    while (mayLook()) findAfter(0.03);
    for (let i = 0; i < 10; i++) expect(wokenAfter(0.001)).toBe(WINDOW_MS);
  });
});
