import { expect, it } from "@jest/globals";
import { Histogram, sumOf } from "./histogram.ts";

it("a histogram counts a value in the first bucket whose bound it does not exceed", () => {
  const histogram = new Histogram([1, 2, 5]);
  for (const value of [0, 1, 1.5, 2, 5, 5.5, 100]) histogram.observe(value);
  expect([...histogram.counts]).toEqual([2, 2, 1, 2]);
  expect(histogram.count).toBe(7);
  expect(histogram.sum).toBe(115);
});

it("histograms of the same bounds add up", () => {
  const [one, other] = [new Histogram([1]), new Histogram([1])];
  one.observe(0.5);
  other.observe(0.25);
  other.observe(3);
  expect(sumOf([one, other])).toEqual({ bounds: [1], counts: [2, 1], sum: 3.75 });
  expect(sumOf([])).toBeNull();
});
