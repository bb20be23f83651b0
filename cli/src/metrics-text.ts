/** Samples of one scrape, by metric. */
export class Scrape {
  readonly #values: ReadonlyMap<string, readonly number[]>;
  /** Monotonic, in milliseconds. */
  readonly atMs: number;

  constructor(text: string, atMs: number) {
    this.#values = parse(text);
    this.atMs = atMs;
  }

  has(metric: string): boolean {
    return this.#values.has(metric);
  }

  /** Of all the metric's samples; undefined where it has none. */
  sum(metric: string): number | undefined {
    return this.#values.get(metric)?.reduce((sum, value) => sum + value, 0);
  }

  /** Growth a second of counters since an earlier scrape; undefined where one has started anew or is missing. */
  rate(before: Scrape, ...metrics: readonly string[]): number | undefined {
    let total = 0;
    let known = false;
    for (const metric of metrics) {
      const now = this.sum(metric);
      const then = before.sum(metric);
      if (now === undefined || then === undefined) continue;
      if (now < then) return undefined;
      known = true;
      total += now - then;
    }
    const seconds = (this.atMs - before.atMs) / 1000;
    return known && seconds > 0 ? total / seconds : undefined;
  }
}

/** Prometheus text format 0.0.4, labels left out. */
function parse(text: string): Map<string, number[]> {
  const values = new Map<string, number[]>();
  for (const line of text.split("\n")) {
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)(?: \d+)?$/.exec(line);
    const [, name, value] = sample ?? [];
    if (name === undefined || value === undefined) continue;
    const known = values.get(name) ?? [];
    known.push(Number(value.replace("Inf", "Infinity")));
    values.set(name, known);
  }
  return values;
}
