import { describe, expect, it } from "@jest/globals";
import { Convergence } from "./convergence.ts";

const MIB = 2 ** 20;
const options = { budgetMs: 100, autoConverge: true };

describe("the passes of a migration", () => {
  it("end when what is left fits into the time that the guest may stand still", () => {
    const passes = new Convergence(options);
    expect(passes.passed({ sentBytes: 1000 * MIB, tookMs: 1000, dirtyBytes: 200 * MIB }).isLast).toBe(false);
    expect(passes.passed({ sentBytes: 200 * MIB, tookMs: 200, dirtyBytes: 90 * MIB }).isLast).toBe(true);
    expect(passes.last?.bytesPerSecond).toBeCloseTo(1000 * MIB, -3);
  });

  it("end for a trifle, however slow the link is", () => {
    expect(new Convergence(options).passed({ sentBytes: 1, tookMs: 10_000, dirtyBytes: 4096 }).isLast).toBe(true);
  });

  it("hold the guest back more and more when it dirties faster than can be sent, and not otherwise", () => {
    const stubborn = { sentBytes: 100 * MIB, tookMs: 1000, dirtyBytes: 100 * MIB };
    const passes = new Convergence(options);
    const throttles = Array.from({ length: 14 }, () => passes.passed(stubborn).throttle);
    expect(throttles.slice(0, 5).map((share) => Math.round(share * 100))).toEqual([0, 0, 20, 30, 40]);
    expect(Math.max(...throttles)).toBe(0.99);
    const left = new Convergence({ ...options, autoConverge: false });
    for (let i = 0; i < 9; i++) expect(left.passed(stubborn)).toEqual({ isLast: false, throttle: 0 });
  });

  it("do not take the speed of a tiny pass for that of the link", () => {
    const passes = new Convergence(options);
    passes.passed({ sentBytes: 1000 * MIB, tookMs: 1000, dirtyBytes: 500 * MIB });
    passes.passed({ sentBytes: 4096, tookMs: 50, dirtyBytes: 500 * MIB });
    expect(passes.last?.bytesPerSecond).toBeCloseTo(1000 * MIB, -3);
  });
});
