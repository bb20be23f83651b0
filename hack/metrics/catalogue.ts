import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Metric as PromMetric, Registry } from "prom-client";
import { GuestConsole } from "../../launcher/src/control/console/guest-console.ts";
import { LauncherApi } from "../../launcher/src/control/launcher-api.ts";
import { LoopLag } from "../../launcher/src/control/loop-lag.ts";
import { type Metric, prometheusText } from "../../launcher/src/control/prometheus.ts";
import { telemetrySources } from "../../launcher/src/control/telemetry-sources.ts";
import { FakeMachine } from "../../launcher/src/control/testing/fake-machine.ts";
import { jsonLogger } from "../../launcher/src/log/logger.ts";
import { DiskUse } from "../../launcher/src/virtio/block/disk-use.ts";
import { VsockUse } from "../../launcher/src/virtio/vsock/vsock-use.ts";
import { controllersMetrics } from "../../operator/src/controllers/metrics.ts";
import { createWorld } from "../../operator/src/controllers/virtualmachine/observe.ts";
import { nodeMetrics } from "../../operator/src/node/metrics.ts";

/** One metric as it is documented. */
export interface MetricEntry {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly labels: readonly string[];
}

/** All metrics of the product, as its own code exposes them, and a scrape of each part. */
export interface Catalogue {
  readonly launcher: readonly MetricEntry[];
  readonly controllers: readonly MetricEntry[];
  readonly node: readonly MetricEntry[];
  /** Texts that Prometheus would read. */
  readonly scrapes: Readonly<Record<"launcher" | "controllers" | "node", string>>;
}

/** Labels of each of a launcher's metrics. */
export const MACHINE_LABELS = { namespace: "shop", name: "web" } as const;

/** Runs the code that exposes metrics, over machines that have one of everything. */
export async function readCatalogue(): Promise<Catalogue> {
  const launcher = launcherMetrics();
  const controllers = new Registry();
  controllersMetrics(controllers, {
    lease: "typevisor-operator",
    world: createWorld,
    certificates: () => ({ authorityMs: 0, operatorMs: 0 }),
    webhookNotAfterMs: () => 0,
    nowMs: Date.now,
  }).client.observe("GET", "10.96.0.1:443", 200, 0.01);
  const node = new Registry();
  nodeMetrics(node, "0.1.0");
  return {
    launcher: launcher.map(({ name, type, help, samples }) => ({
      name,
      type,
      help,
      labels: [...Object.keys(MACHINE_LABELS), ...labelNamesOf(samples)],
    })),
    controllers: entriesOf(controllers),
    node: entriesOf(node),
    scrapes: {
      launcher: prometheusText(launcher, MACHINE_LABELS),
      controllers: await controllers.metrics(),
      node: await node.metrics(),
    },
  };
}

/** Those of buckets are understood. */
function labelNamesOf(samples: Metric["samples"]): string[] {
  const names = new Set(samples.flatMap(([labels]) => Object.keys(labels)));
  names.delete("le");
  return [...names];
}

function launcherMetrics(): readonly Metric[] {
  using lag = new LoopLag();
  const machine = new FakeMachine();
  machine.disks = [{ name: "root", sizeBytes: 2 ** 30, isFull: false, operations: new DiskUse().operations }];
  const direction = { packets: 1, bytes: 1, dropped: 1, errors: 1 };
  machine.interfaces = [{ name: "default", receive: direction, transmit: direction }];
  machine.vsock = { use: new VsockUse(), connect() {} };
  const console = new GuestConsole(0);
  const api = new LauncherApi({ machine, console, log: jsonLogger("error", {}, () => undefined) });
  api.requests.set("GET /v1/status 200", 1);
  const progress = { rounds: 1, sentBytes: 1, remainingBytes: 1, diskSentBytes: 1, diskRemainingBytes: 1 };
  const rates = { bytesPerSecond: 1, dirtyBytesPerSecond: 1, throttle: 0 };
  const move = { role: "source", phase: "Copying", message: "", progress: { ...progress, ...rates } } as const;
  const processDirectory = fakeProcess();
  try {
    return telemetrySources({ machine, console, api, lag, processDirectory, migration: () => move }).flatMap(
      (source) => [...source()],
    );
  } finally {
    rmSync(processDirectory, { recursive: true });
  }
}

/** A process in /proc with one vCPU. */
function fakeProcess(): string {
  const directory = mkdtempSync(join(tmpdir(), "typevisor-metrics-"));
  const task = join(directory, "task", "2");
  mkdirSync(task, { recursive: true });
  writeFileSync(join(task, "comm"), "vcpu\n");
  writeFileSync(join(task, "schedstat"), "1 1 1\n");
  const fields = ["RssAnon", "RssFile", "RssShmem", "VmPTE", "VmSwap"];
  writeFileSync(join(directory, "status"), fields.map((field) => `${field}:\t1 kB\n`).join(""));
  return directory;
}

function entriesOf(registry: Registry): MetricEntry[] {
  return registry.getMetricsAsArray().map((metric) => {
    const { name, help, type, labelNames } = metric as unknown as PromMetric & Described;
    return { name, help, type: String(type), labels: [...labelNames] };
  });
}

/** Fields that prom-client's metrics have and its types do not tell. */
interface Described {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames: readonly string[];
}
