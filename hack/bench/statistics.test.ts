import { describe, expect, it } from "@jest/globals";
import { median, medians, percentile, table } from "./statistics.ts";

describe("statistics", () => {
  it("takes the middle number, the upper one of two", () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([4, 1, 3, 2])).toBe(3);
    expect(median([])).toBeNaN();
  });

  it("finds the number that a share of all stand before", () => {
    const hundred = Array.from({ length: 100 }, (_, i) => i);
    expect([percentile(hundred, 50), percentile(hundred, 95), percentile(hundred, 100)]).toEqual([50, 95, 99]);
  });

  it("takes the median of each field", () => {
    const rows = [
      { a: 1, b: 0.14 },
      { a: 3, b: 0.16 },
      { a: 2, b: 0.25 },
    ];
    expect(medians(rows, 1)).toEqual({ a: 2, b: 0.2 });
  });

  it("aligns numbers to the right under their names", () => {
    const rows = [
      { step: "accepted", ms: 7 },
      { step: "run", ms: 1200 },
    ];
    expect(table(rows)).toBe("step        ms\naccepted     7\nrun       1200");
  });
});
