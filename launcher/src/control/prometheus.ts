import type { HistogramReport } from "../measure/histogram.ts";

/** One metric of the Prometheus text format 0.0.4. Samples are [labels, value], and of a histogram [labels, value, suffix of the name]. */
export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly samples: readonly Sample[];
}

export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number, suffix?: string];

/** Where metrics come from; asked at each scrape. */
export type MetricSource = () => Iterable<Metric>;

export function metric(type: Metric["type"], name: string, help: string, value: number): Metric {
  return { name, help, type, samples: [[{}, value]] };
}

/** The samples of a histogram: buckets that add up, sum and count. */
export function histogramSamples(labels: Readonly<Record<string, string>>, report: HistogramReport): Sample[] {
  const { bounds, counts, sum } = report;
  let count = 0;
  const buckets = Array.from(counts, (more, bucket): Sample => {
    count += more;
    return [{ ...labels, le: number(bounds[bucket] ?? Number.POSITIVE_INFINITY) }, count, "_bucket"];
  });
  return [...buckets, [labels, sum, "_sum"], [labels, count, "_count"]];
}

/** `common` labels go with each sample. */
export function prometheusText(metrics: Iterable<Metric>, common: Readonly<Record<string, string>>): string {
  const lines: string[] = [];
  for (const { name, help, type, samples } of metrics) {
    lines.push(`# HELP ${name} ${help.replace(/\\/g, "\\\\").replace(/\n/g, "\\n")}`, `# TYPE ${name} ${type}`);
    for (const [labels, value, suffix = ""] of samples)
      lines.push(`${name}${suffix}${labelText({ ...common, ...labels })} ${number(value)}`);
  }
  return `${lines.join("\n")}\n`;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
}

function number(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return String(value);
}
