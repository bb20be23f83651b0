/** What a histogram has seen. */
export interface HistogramReport {
  /** Upper bounds, ascending. */
  readonly bounds: readonly number[];
  /** Values up to each bound, and above the one before it; the last ones are above all bounds. */
  readonly counts: ArrayLike<number>;
  readonly sum: number;
}

/** How many values there were, by bounds, and their sum. Counting allocates nothing. */
export class Histogram implements HistogramReport {
  readonly bounds: readonly number[];
  readonly counts: Float64Array;
  sum = 0;
  /** Values so far. */
  count = 0;

  /** `bounds` ascend. */
  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds, counts } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket++;
    counts[bucket] = (counts[bucket] ?? 0) + 1;
    this.count++;
    this.sum += value;
  }
}

/** The sum of histograms that have the same bounds; null of none. */
export function sumOf(histograms: readonly HistogramReport[]): HistogramReport | null {
  const [first] = histograms;
  if (first === undefined) return null;
  const counts = Array.from(first.counts, (_, bucket) =>
    histograms.reduce((sum, each) => sum + (each.counts[bucket] ?? 0), 0),
  );
  return { bounds: first.bounds, counts, sum: histograms.reduce((sum, each) => sum + each.sum, 0) };
}
