import { setTimeout as sleep } from "node:timers/promises";
import { VM_LABEL } from "../../../operator/src/controllers/virtualmachine/names.ts";
import { ApiError, messageOf } from "../../../operator/src/runtime/errors.ts";
import { type Pod, resources } from "../../../operator/src/runtime/wire.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { listAll } from "../cluster/machines.ts";
import { eachRunning, readPodMetrics } from "../cluster/pod-metrics.ts";
import { type Environment, say } from "../environment.ts";
import { CliError, exitCodes } from "../exit-codes.ts";
import type { Scrape } from "../metrics-text.ts";
import { printValue } from "../output/objects.ts";
import { bytesText, digits } from "../output/quantities.ts";
import { table } from "../output/table.ts";

export const sortKeys = ["name", "cpu", "memory", "disk", "network"] as const;

export interface TopOptions {
  readonly allNamespaces: boolean;
  readonly selector?: string;
  readonly intervalMs: number;
  /** One table, even on a terminal. */
  readonly once: boolean;
  readonly sortBy: (typeof sortKeys)[number];
  /** wide, json or yaml. */
  readonly output?: string;
}

/** What the launcher's metrics are called; docs/metrics.md describes them. */
export const topMetrics = {
  cpu: "typevisor_vm_cpu_usage_seconds_total",
  vcpus: "typevisor_vm_vcpus",
  resident: "typevisor_vm_memory_resident_bytes",
  domain: "typevisor_vm_memory_domain_bytes",
  diskRead: "typevisor_vm_storage_read_traffic_bytes_total",
  diskWrite: "typevisor_vm_storage_write_traffic_bytes_total",
  readRequests: "typevisor_vm_storage_iops_read_total",
  writeRequests: "typevisor_vm_storage_iops_write_total",
  networkReceive: "typevisor_vm_network_receive_bytes_total",
  networkTransmit: "typevisor_vm_network_transmit_bytes_total",
  exits: "typevisor_vm_exits_total",
  loopLag: "typevisor_launcher_event_loop_lag_max_seconds",
} as const;

/** One machine in the table; rates are for a second, and absent where they cannot be told. */
export interface Row {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  /** Processors in use, the launcher's own work included. */
  readonly cpu?: number;
  readonly vcpus?: number;
  readonly residentBytes?: number;
  readonly guestBytes?: number;
  readonly diskReadBytes?: number;
  readonly diskWriteBytes?: number;
  readonly diskRequests?: number;
  readonly networkReceiveBytes?: number;
  readonly networkTransmitBytes?: number;
  readonly exits?: number;
  readonly loopLagSeconds?: number;
  /** Why there are no figures. */
  readonly problem?: string;
}

const CLEAR_SCREEN = "\u001b[H\u001b[J";

/** `top`: what machines use, again and again on a terminal, once elsewhere. */
export async function top(cluster: Cluster, options: TopOptions, environment: Environment): Promise<void> {
  const { stdout, signal } = environment;
  const live = stdout.isTTY === true && !options.once && (options.output === undefined || options.output === "wide");
  let before = await scrapeAll(cluster, options);
  refuseWhereNoneCanBeRead(before);
  for (;;) {
    if (!(await pauseFor(options.intervalMs, signal))) return;
    const after = await scrapeAll(cluster, options);
    const rows = rowsOf(before, after, options.sortBy);
    if (options.output === "json" || options.output === "yaml") printValue(environment, rows, options.output);
    else stdout.write((live ? CLEAR_SCREEN : "") + topTable(rows, options, stdout));
    if (!live) {
      if (rows.length === 0)
        say(environment, `no machine runs in ${options.allNamespaces ? "the cluster" : cluster.namespace}`);
      return;
    }
    before = after;
  }
}

interface Target {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly node: string;
}

interface Scraped {
  readonly target: Target;
  readonly scrape?: Scrape;
  readonly error?: unknown;
}

async function scrapeAll(cluster: Cluster, options: TopOptions): Promise<Scraped[]> {
  const namespace = options.allNamespaces ? undefined : cluster.namespace;
  const labelSelector = [VM_LABEL, options.selector].filter((part) => part !== undefined).join(",");
  const pods = await listAll<Pod>(cluster, resources.pods, { namespace, labelSelector });
  return await eachRunning(pods, (pod) => scrape(cluster, pod));
}

function targetOf({ metadata, spec }: Pod): Target {
  return {
    namespace: metadata?.namespace ?? "",
    name: metadata?.labels?.[VM_LABEL] ?? "",
    uid: metadata?.uid ?? "",
    node: spec?.nodeName ?? "",
  };
}

async function scrape(cluster: Cluster, pod: Pod): Promise<Scraped> {
  const target = targetOf(pod);
  try {
    return { target, scrape: await readPodMetrics(cluster, pod, "telemetry") };
  } catch (error) {
    return { target, error };
  }
}

function refuseWhereNoneCanBeRead(scraped: readonly Scraped[]): void {
  const forbidden = scraped.filter(({ error }) => error instanceof ApiError && error.isForbidden);
  if (forbidden.length > 0 && forbidden.length === scraped.length) {
    throw new CliError(
      "you lack the right to read the launchers' metrics: get on pods/proxy, which the cluster's role edit has",
      exitCodes.forbidden,
    );
  }
}

/** Rates between two scrapes of the same pods; what came or went in between has no row, or one without rates. */
function rowsOf(before: readonly Scraped[], after: readonly Scraped[], sortBy: TopOptions["sortBy"]): Row[] {
  const earlier = new Map(before.map((scraped) => [scraped.target.uid, scraped.scrape]));
  return after.map((now) => rowOf(now, earlier.get(now.target.uid))).sort((a, b) => compare(a, b, sortBy));
}

function rowOf({ target, scrape: now, error }: Scraped, then: Scrape | undefined): Row {
  const { namespace, name, node } = target;
  if (now === undefined) return { namespace, name, node, problem: messageOf(error) };
  const rate = (...metrics: string[]) => (then === undefined ? undefined : now.rate(then, ...metrics));
  const m = topMetrics;
  const figures = {
    cpu: rate(m.cpu),
    vcpus: now.sum(m.vcpus),
    residentBytes: now.sum(m.resident),
    guestBytes: now.sum(m.domain),
    diskReadBytes: rate(m.diskRead),
    diskWriteBytes: rate(m.diskWrite),
    diskRequests: rate(m.readRequests, m.writeRequests),
    networkReceiveBytes: rate(m.networkReceive),
    networkTransmitBytes: rate(m.networkTransmit),
    exits: rate(m.exits),
    loopLagSeconds: now.sum(m.loopLag),
  };
  const known = Object.entries(figures).filter(([, value]) => value !== undefined);
  return { namespace, name, node, ...(Object.fromEntries(known) as Partial<Row>) };
}

function compare(a: Row, b: Row, sortBy: TopOptions["sortBy"]): number {
  const weight = (row: Row) => {
    if (sortBy === "cpu") return row.cpu ?? -1;
    if (sortBy === "memory") return row.residentBytes ?? -1;
    if (sortBy === "disk") return (row.diskReadBytes ?? -1) + (row.diskWriteBytes ?? 0);
    return sortBy === "network" ? (row.networkReceiveBytes ?? -1) + (row.networkTransmitBytes ?? 0) : 0;
  };
  return weight(b) - weight(a) || a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name);
}

/** The table; as many rows as a terminal has lines. */
export function topTable(
  rows: readonly Row[],
  options: Pick<TopOptions, "allNamespaces" | "output">,
  screen: { readonly isTTY?: boolean; readonly rows?: number },
): string {
  const wide = options.output === "wide";
  const header = [
    ...(options.allNamespaces ? ["NAMESPACE"] : []),
    ...["NAME", "CPU", "VCPUS", "MEMORY", "GUEST", "READ/S", "WRITE/S", "RX/S", "TX/S"],
    ...(wide ? ["IOPS", "EXITS/S", "LAG", "NODE"] : []),
  ];
  const room = screen.isTTY === true && screen.rows !== undefined ? Math.max(1, screen.rows - 3) : rows.length;
  const text = table(
    header,
    rows.slice(0, room).map((row) => [...(options.allNamespaces ? [row.namespace] : []), ...cells(row, wide)]),
  );
  const problems = rows.filter(({ problem }) => problem !== undefined);
  const first = problems[0];
  const why =
    first === undefined ? "" : `${problems.length} without figures, such as ${first.name}: ${first.problem}\n`;
  return text + (rows.length > room ? `(${rows.length - room} more)\n` : "") + why;
}

function cells(row: Row, wide: boolean): string[] {
  const bytes = (value: number | undefined) => (value === undefined ? "-" : bytesText(value));
  const number = (value: number | undefined) => (value === undefined ? "-" : digits(value));
  return [
    row.name,
    number(row.cpu),
    row.vcpus?.toString() ?? "-",
    bytes(row.residentBytes),
    bytes(row.guestBytes),
    bytes(row.diskReadBytes),
    bytes(row.diskWriteBytes),
    bytes(row.networkReceiveBytes),
    bytes(row.networkTransmitBytes),
    ...(wide ? [number(row.diskRequests), number(row.exits), milliseconds(row.loopLagSeconds), row.node] : []),
  ];
}

function milliseconds(seconds: number | undefined): string {
  return seconds === undefined ? "-" : `${digits(seconds * 1000)} ms`;
}

/** False where the user interrupted. */
async function pauseFor(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, undefined, { signal });
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    throw error;
  }
}
