import { describe, expect, it } from "@jest/globals";
import { ResetGuard } from "./reset-guard.ts";

function resets(runsMs: readonly number[]): boolean[] {
  const guard = new ResetGuard();
  return runsMs.map((ranMs) => guard.reset(ranMs));
}

describe("a reset storm", () => {
  it("is the twentieth reset after short runs", () => {
    expect(resets(new Array(20).fill(100))).toEqual([...new Array(19).fill(false), true]);
  });

  it("is none when one of the runs was a real one", () => {
    const runs = new Array(38).fill(100);
    runs[19] = 1001;
    expect(resets(runs)).toEqual([...new Array(19).fill(false), ...new Array(19).fill(false)]);
  });

  it("counts again from a real run on", () => {
    expect(resets([1001, ...new Array(20).fill(0)]).at(-1)).toBe(true);
  });

  it("is none when the twenty took longer than ten seconds of running", () => {
    expect(resets(new Array(40).fill(501))).not.toContain(true);
    expect(resets(new Array(20).fill(500))).toContain(true);
  });
});
