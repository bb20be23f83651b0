/**
 * How long from `kubectl apply` until a machine of the test guest runs, step by step, and how long where many are
 * applied at once; beside plain pods of the same images and volumes on the same node. Wants a cluster with native
 * nodes, the chart installed and the images loaded, as docs/benchmarks.md shows.
 *
 *   node hack/bench/apply-to-running.ts [--runs N] [--burst N] [--kubeconfig PATH]
 *
 * A table on standard error, JSON on standard output.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Client } from "../../operator/src/runtime/client.ts";
import { kubeConfigConnection } from "../../operator/src/runtime/kubeconfig.ts";
import { ensureTools } from "../dev-cluster/tools/tools.ts";
import { run } from "../lib/step.ts";
import { ClusterTimeline, type Sight } from "./cluster-timeline.ts";
import { processorTime, spentSince } from "./processor-time.ts";
import { medians, percentile, round, table } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "5" },
    burst: { type: "string", default: "100" },
    kubeconfig: { type: "string", default: process.env["KUBECONFIG"] ?? "" },
  },
});
const runs = Number(values.runs);
const burst = Number(values.burst);
if (values.kubeconfig === "") throw new TypeError("--kubeconfig or KUBECONFIG must name the cluster");

const NAMESPACE = "bench";
const LAUNCHER_IMAGE = "docker.io/typevisor/launcher:dev";
const GUEST_IMAGE = "docker.io/typevisor/testguest:dev";
const TELEMETRY_PORT = 10_080;
const ONE_MS = 60_000;
const BURST_MS = 900_000;

const kubectl = [
  join((await ensureTools()).kube, "kubectl"),
  `--kubeconfig=${values.kubeconfig}`,
  `--namespace=${NAMESPACE}`,
];

function virtualMachine(name: string): object {
  return {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: { name },
    spec: {
      memory: { size: "16Mi" },
      boot: { kernel: { image: { reference: GUEST_IMAGE }, path: "/boot/testguest" } },
      terminationGracePeriodSeconds: 5,
      // Many fit on a small node.
      template: { spec: { resources: { requests: { cpu: "1m" } } } },
    },
  };
}

/** What a machine's pod is to Kubernetes, without a machine: the same images and volumes, and Node answering probes. */
function plainPod(name: string): object {
  const answer = `require("http").createServer((_, response) => response.end()).listen(${TELEMETRY_PORT})`;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: {
      restartPolicy: "Never",
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: "plain",
          image: LAUNCHER_IMAGE,
          imagePullPolicy: "IfNotPresent",
          command: ["node", "-e", answer],
          resources: { requests: { cpu: "1m", memory: "16Mi" } },
          readinessProbe: { httpGet: { path: "/", port: TELEMETRY_PORT }, periodSeconds: 2 },
          volumeMounts: [
            { name: "secret", mountPath: "/secret" },
            { name: "run", mountPath: "/run/plain" },
            { name: "image", mountPath: "/image", readOnly: true },
          ],
        },
      ],
      volumes: [
        { name: "secret", secret: { secretName: "plain" } },
        { name: "run", emptyDir: {} },
        { name: "image", image: { reference: GUEST_IMAGE } },
      ],
    },
  };
}

/** Runs `kubectl apply`; when it began and ended. */
async function apply(items: readonly object[]): Promise<{ beganAt: number; appliedAt: number }> {
  const [program = "", ...args] = [...kubectl, "apply", "-f", "-"];
  const beganAt = Date.now();
  const child = spawn(program, args, { stdio: ["pipe", "ignore", "inherit"] });
  child.stdin.end(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  const [code] = (await once(child, "exit")) as [number];
  if (code !== 0) throw new Error(`kubectl apply ended with ${code}`);
  return { beganAt, appliedAt: Date.now() };
}

/** Steps of a launcher's start that only it can tell of, in milliseconds since the epoch. */
async function launcherSteps(name: string): Promise<{ process: number; firstLine: number; firstInstruction: number }> {
  const { status } = JSON.parse(await run([...kubectl, "get", "vm", name, "-o", "json"])) as {
    status: { startedAt: string };
  };
  const path = `/api/v1/namespaces/${NAMESPACE}/pods/vm-${name}:${TELEMETRY_PORT}/proxy/metrics`;
  const metrics = await run([...kubectl, "get", "--raw", path]);
  const sinceProcess = Number(/^typevisor_vm_milestone_seconds\{.*step="running"\} (\S+)$/m.exec(metrics)?.[1]);
  const firstInstruction = Date.parse(status.startedAt);
  const [line = ""] = (await run([...kubectl, "logs", "--timestamps", `vm-${name}`])).split("\n");
  return {
    process: firstInstruction - sinceProcess * 1000,
    firstLine: Date.parse(line.split(" ")[0] ?? ""),
    firstInstruction,
  };
}

const connection = kubeConfigConnection(values.kubeconfig);
await run([...kubectl, "create", "namespace", NAMESPACE]);
await run([...kubectl, "create", "secret", "generic", "plain", "--from-literal=key=value"]);
const timeline = new ClusterTimeline(new Client(connection), NAMESPACE);

async function clear(kind: "vm" | "pod"): Promise<void> {
  await run([...kubectl, "delete", kind, "--all", "--wait=false"]);
  await timeline.empty(BURST_MS);
}

async function oneMachine(): Promise<Record<string, number>> {
  const { beganAt, appliedAt } = await apply([virtualMachine("one")]);
  await timeline.until(["one"], "pod Ready", ONE_MS);
  await timeline.until(["one"], "vm Running", ONE_MS);
  const seen = timeline.of("one");
  const at = (sight: Sight) => (seen.get(sight) ?? Number.NaN) - beganAt;
  const { process, firstLine, firstInstruction } = await launcherSteps("one");
  const steps = {
    accepted: at("vm accepted"),
    "kubectl ended": appliedAt - beganAt,
    "pod created": at("pod created"),
    scheduled: at("scheduled"),
    "launcher's process": process - beganAt,
    "its first line": firstLine - beganAt,
    "first guest instruction": firstInstruction - beganAt,
    "pod's address known": at("address"),
    Running: at("vm Running"),
    "pod Ready": at("pod Ready"),
  };
  await clear("vm");
  return steps;
}

async function onePod(): Promise<Record<string, number>> {
  const { beganAt } = await apply([plainPod("one")]);
  await timeline.until(["one"], "pod Ready", ONE_MS);
  const seen = timeline.of("one");
  const at = (sight: Sight) => (seen.get(sight) ?? Number.NaN) - beganAt;
  const steps = {
    accepted: at("pod created"),
    scheduled: at("scheduled"),
    Running: at("pod Running"),
    "pod Ready": at("pod Ready"),
  };
  await clear("pod");
  return steps;
}

interface Burst {
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly lastMs: number;
  readonly appliedMs: number;
  /** Until the last was there, by program; "all" is the whole machine's. */
  readonly processorSeconds: Readonly<Record<string, number>>;
}

/** Many at once; each is counted from the start of the one `kubectl apply`. */
async function many(make: (name: string) => object, sight: Sight): Promise<Burst> {
  const names = Array.from({ length: burst }, (_, i) => `many-${i}`);
  const before = processorTime();
  const { beganAt, appliedAt } = await apply(names.map(make));
  await timeline.until(names, sight, BURST_MS);
  const times = names.map((name) => (timeline.of(name).get(sight) ?? Number.NaN) - beganAt);
  return {
    p50Ms: percentile(times, 50),
    p95Ms: percentile(times, 95),
    lastMs: Math.max(...times),
    appliedMs: appliedAt - beganAt,
    processorSeconds: spentSince(before),
  };
}

try {
  // The first of each brings what later ones find: caches, and the controllers' connections.
  await oneMachine();
  await onePod();
  const machines: Record<string, number>[] = [];
  const pods: Record<string, number>[] = [];
  for (let i = 0; i < runs; i++) {
    machines.push(await oneMachine());
    pods.push(await onePod());
  }
  const [machine, pod] = [medians(machines, 0), medians(pods, 0)];
  console.error(table(Object.entries(machine).map(([step, ms]) => ({ step, ms, "plain pod": pod[step] ?? "" }))));
  const ratio = round((machine["Running"] ?? Number.NaN) / (pod["pod Ready"] ?? Number.NaN), 2);
  console.error(`machine Running to plain pod Ready: ${ratio}`);
  const bursts: Record<string, Burst> = {};
  if (burst > 0) {
    bursts["machines"] = await many(virtualMachine, "vm Running");
    console.error(`${burst} machines: ${JSON.stringify(bursts["machines"])}`);
    await clear("vm");
    bursts["plainPods"] = await many(plainPod, "pod Ready");
    console.error(`${burst} plain pods: ${JSON.stringify(bursts["plainPods"])}`);
    await clear("pod");
  }
  console.log(JSON.stringify({ runs, burst, machine, pod, ratio, bursts, machines, pods }, null, 2));
} finally {
  await timeline[Symbol.asyncDispose]();
  await run([...kubectl, "delete", "namespace", NAMESPACE, "--wait=false"]);
  connection[Symbol.dispose]();
}
