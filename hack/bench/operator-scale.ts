/**
 * What the operator takes in memory and processor time with 0, 100 and 1,000 machines: its bundle, with the chart's
 * flags, against an API server without nodes; hack/fake-node stands for nodes and launchers. Needs root (the operator
 * finds its service account in a mount namespace of its own). Build first: hack/build operator.
 *
 *   node hack/bench/operator-scale.ts [RUNS]        a table on standard error, JSON on standard output
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { FakeKubelet } from "../fake-node/fake-kubelet.ts";
import { type ApiServer, startApiServer } from "../lib/apiserver.ts";
import { parseProcessStat, TICKS_PER_SECOND } from "../lib/process-stat.ts";
import { waitFor } from "../lib/step.ts";
import { repository } from "./bench-launcher.ts";
import { mebibytes, median, medians, percentile, round, table } from "./statistics.ts";

const runs = Number(process.argv[2] ?? 5);
const NAMESPACE = "bench";
const SYSTEM_NAMESPACE = "typevisor-system";
const HTTP_PORT = 18_080;
const SIZES = [0, 100, 1000];
const BURST = 100;
const READS = new Set(["GET", "LIST", "WATCH"]);
/** The operator collects its garbage a minute after its start. */
const SETTLE_MS = 75_000;
const IDLE_MS = 60_000;
const REACH_DEADLINE_MS = 600_000;
/** Unit of the times in /proc/PID/stat: sysconf(_SC_CLK_TCK), 100 on every Linux. */

interface Row extends Record<string, number> {
  /** Until all machines run. */
  readonly "CPU s to get there": number;
  readonly "seconds to get there": number;
  /** From the first request of a burst until 99 % of its pods are there, the median of the bursts. */
  readonly "burst to pods P99 s": number;
  /** Requests other than GET for each machine, the lease's included. */
  readonly "writes a machine": number;
  readonly "idle CPU ms/min": number;
  readonly privateMiB: number;
  readonly residentMiB: number;
  readonly heapUsedMiB: number;
}

/** The operator as in a pod: its service account at the usual path, in a mount namespace of its own. */
async function startOperator(server: ApiServer, directory: string, launcherPort: number): Promise<ChildProcess> {
  writeFileSync(join(directory, "ca.crt"), server.certificateAuthority);
  writeFileSync(join(directory, "token"), server.token, { mode: 0o600 });
  const flags = ["--leader-elect", "--launcher-image=registry.example/typevisor/launcher:dev"];
  flags.push(`--http-port=${HTTP_PORT}`, `--launcher-control-port=${launcherPort}`, "--log-level=warn");
  const account = "/run/secrets/kubernetes.io/serviceaccount";
  const enter = `mount -t tmpfs none /run && mkdir -p ${account} && cp "$0"/ca.crt "$0"/token ${account} && exec "$@"`;
  const program = [process.execPath, join(repository, "dist/operator/operator.js"), "controllers", ...flags];
  const url = new URL(server.url);
  const child = spawn("unshare", ["--mount", "sh", "-c", enter, directory, ...program], {
    stdio: ["ignore", "inherit", "inherit"],
    env: {
      PATH: process.env["PATH"],
      // As in its image.
      NODE_OPTIONS: "--expose-gc --max-semi-space-size=4",
      MALLOC_ARENA_MAX: "1",
      KUBERNETES_SERVICE_HOST: url.hostname,
      KUBERNETES_SERVICE_PORT: url.port,
      POD_NAMESPACE: SYSTEM_NAMESPACE,
      POD_NAME: "operator-0",
    },
  });
  const isReady = () =>
    text("/readyz").then(
      (answer) => child.exitCode === null && answer !== "",
      () => false,
    );
  await waitFor(isReady, { what: "the operator", timeoutMs: 60_000 });
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null)
    throw new Error(`the operator ended by itself: ${child.exitCode ?? child.signalCode}`);
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}

function text(path: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  get({ host: "127.0.0.1", port: HTTP_PORT, path }, async (response) => {
    resolve(Buffer.concat(await response.toArray()).toString());
  }).on("error", reject);
  return promise;
}

function cpuMs(pid: number): number {
  return (parseProcessStat(readFileSync(`/proc/${pid}/stat`, "utf8")).cpuTicks * 1000) / TICKS_PER_SECOND;
}

async function memory(pid: number): Promise<Pick<Row, "privateMiB" | "residentMiB" | "heapUsedMiB">> {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(rollup)?.[1]) * 1024;
  const heap = Number(/^nodejs_heap_size_used_bytes (\S+)$/m.exec(await text("/metrics"))?.[1]);
  return {
    privateMiB: mebibytes(bytes("Private_Clean") + bytes("Private_Dirty")),
    residentMiB: mebibytes(bytes("Rss")),
    heapUsedMiB: mebibytes(heap),
  };
}

const machines = "/apis/typevisor.io/v1alpha1/virtualmachines";

/** Bursts of a hundred at once; answers what each took until 99 % of its pods were there, in seconds. */
async function create(server: ApiServer, kubelet: FakeKubelet, from: number, to: number): Promise<number[]> {
  const path = `/apis/typevisor.io/v1alpha1/namespaces/${NAMESPACE}/virtualmachines`;
  const kernel = {
    image: { reference: "registry.example/guest:dev" },
    path: "/boot/vmlinuz",
    cmdline: "console=ttyS0",
  };
  const one = async (index: number) => {
    const body = {
      apiVersion: "typevisor.io/v1alpha1",
      kind: "VirtualMachine",
      metadata: { name: `vm-${index}`, labels: { app: "bench" } },
      spec: { memory: { size: "256Mi" }, boot: { kernel }, disks: [{ name: "root", image: kernel.image }] },
    };
    const answer = await server.request("POST", path, { body });
    if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
  };
  const seconds: number[] = [];
  for (let first = from; first < to; first += BURST) {
    const startedMs = performance.now();
    await Promise.all(Array.from({ length: BURST }, (_, index) => one(first + index)));
    const seen = () => [...kubelet.podsSeenAtMs.values()].slice(first);
    const all = { what: `the pods of ${BURST} machines`, timeoutMs: REACH_DEADLINE_MS };
    await waitFor(async () => seen().length === BURST, all);
    seconds.push((percentile(seen(), 99) - startedMs) / 1000);
  }
  return seconds;
}

/** Requests that change something, since the operator started. */
async function writes(): Promise<number> {
  const lines = (await text("/metrics")).matchAll(/^rest_client_requests_total\{[^}]*method="(\w+)"[^}]*\} (\d+)$/gm);
  return [...lines].reduce((sum, [, method, count]) => sum + (READS.has(method ?? "") ? 0 : Number(count)), 0);
}

async function running(server: ApiServer): Promise<number> {
  const { body } = await server.request("GET", machines);
  const { items } = body as { items: { status?: { phase?: string } }[] };
  return items.filter(({ status }) => status?.phase === "Running").length;
}

async function idle(pid: number): Promise<Pick<Row, "idle CPU ms/min" | "privateMiB" | "residentMiB" | "heapUsedMiB">> {
  await delay(SETTLE_MS);
  const before = cpuMs(pid);
  await delay(IDLE_MS);
  return { "idle CPU ms/min": cpuMs(pid) - before, ...(await memory(pid)) };
}

async function prepare(server: ApiServer): Promise<void> {
  for (const namespace of [SYSTEM_NAMESPACE, NAMESPACE]) {
    await server.kubectl(["create", "namespace", namespace]);
    await server.kubectl(["create", "serviceaccount", "default", "-n", namespace]);
  }
  await server.kubectl(["apply", "--server-side", "-f", join(repository, "crds")]);
  await server.kubectl(["wait", "--for=condition=Established", "crd/virtualmachines.typevisor.io"]);
}

/** One row for each size, and one for an operator that starts when all are there. */
async function oneRun(): Promise<Row[]> {
  await using server = await startApiServer();
  await prepare(server);
  await using kubelet = new FakeKubelet(server, NAMESPACE);
  await kubelet.start();
  const directory = mkdtempSync(join(tmpdir(), "bench-operator-"));
  const rows: Row[] = [];
  let operator = await startOperator(server, directory, kubelet.port);
  const measure = async (pid: number, added: number, work: () => Promise<number[]>) => {
    const [startedMs, cpuBeforeMs, writesBefore] = [performance.now(), cpuMs(pid), await writes()];
    const burst = round(median(await work()), 2);
    const written = added === 0 ? Number.NaN : round(((await writes()) - writesBefore) / added, 2);
    const seconds = round((performance.now() - startedMs) / 1000, 1);
    const spent = round((cpuMs(pid) - cpuBeforeMs) / 1000, 2);
    const reached = { "CPU s to get there": spent, "seconds to get there": seconds };
    rows.push({ ...reached, "burst to pods P99 s": burst, "writes a machine": written, ...(await idle(pid)) });
    console.error(JSON.stringify(rows.at(-1)));
  };
  try {
    let present = 0;
    for (const size of SIZES) {
      await measure(operator.pid ?? 0, size - present, async () => {
        const seconds = await create(server, kubelet, present, size);
        const all = { what: `${size} machines to run`, timeoutMs: REACH_DEADLINE_MS, intervalMs: 1000 };
        if (size > 0) await waitFor(async () => (await running(server)) === size, all);
        return seconds;
      });
      present = size;
    }
    await stop(operator);
    operator = await startOperator(server, directory, kubelet.port);
    await measure(operator.pid ?? 0, 0, async () => []);
  } finally {
    await stop(operator);
    rmSync(directory, { recursive: true });
  }
  return rows;
}

const measured: Row[][] = [];
for (let i = 0; i < runs; i++) measured.push(await oneRun());
const names = [...SIZES.map((size) => `${size} machines`), `${SIZES.at(-1)} machines, operator restarted`];
const results = names.map((name, row) => ({
  name,
  ...medians(
    measured.map((rows) => rows[row] as Row),
    2,
  ),
}));
console.error(table(results));
console.log(JSON.stringify({ runs, results }, null, 2));
