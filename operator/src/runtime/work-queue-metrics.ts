import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** What one work queue tells its metrics. */
export interface WorkQueueMetrics {
  /** Gives the gauges their source. */
  bind(source: WorkQueueState): void;
  added(): void;
  retried(): void;
  started(waitedSeconds: number): void;
  finished(workedSeconds: number): void;
}

export interface WorkQueueState {
  depth(): number;
  /** Monotonic start of each piece of work under way, in milliseconds. */
  processingSince(): readonly number[];
  now(): number;
}

/** Registers `workqueue_*` under client-go's names; returns the view of one queue. */
export function workQueueMetrics(registry: Registry): (name: string) => WorkQueueMetrics {
  const sources = new Map<string, WorkQueueState>();
  const registers = [registry];
  const labelNames = ["name"] as const;
  const buckets = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100, 1000];
  const gauge = (name: string, help: string, value: (state: WorkQueueState) => number) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        for (const [queue, state] of sources) {
          this.set({ name: queue }, value(state));
        }
      },
    });
  const secondsOf = (state: WorkQueueState) => state.processingSince().map((since) => (state.now() - since) / 1000);
  gauge("workqueue_depth", "Current depth of workqueue", (state) => state.depth());
  gauge(
    "workqueue_unfinished_work_seconds",
    "How many seconds of work has been done that is in progress and hasn't been observed by work_duration.",
    (state) => secondsOf(state).reduce((sum, seconds) => sum + seconds, 0),
  );
  gauge(
    "workqueue_longest_running_processor_seconds",
    "How many seconds has the longest running processor for workqueue been running.",
    (state) => Math.max(0, ...secondsOf(state)),
  );
  const adds = new Counter({
    name: "workqueue_adds_total",
    help: "Total number of adds handled by workqueue",
    labelNames,
    registers,
  });
  const retries = new Counter({
    name: "workqueue_retries_total",
    help: "Total number of retries handled by workqueue",
    labelNames,
    registers,
  });
  const waited = new Histogram({
    name: "workqueue_queue_duration_seconds",
    help: "How long in seconds an item stays in workqueue before being requested.",
    labelNames,
    buckets,
    registers,
  });
  const worked = new Histogram({
    name: "workqueue_work_duration_seconds",
    help: "How long in seconds processing an item from workqueue takes.",
    labelNames,
    buckets,
    registers,
  });
  return (name) => ({
    bind: (source) => sources.set(name, source),
    added: () => adds.inc({ name }),
    retried: () => retries.inc({ name }),
    started: (seconds) => waited.observe({ name }, seconds),
    finished: (seconds) => worked.observe({ name }, seconds),
  });
}
