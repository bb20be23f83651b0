import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CLUSTER_NAME, type TestCluster } from "../../e2e/support/cluster.ts";
import type { Kubectl } from "../../e2e/support/kubectl.ts";
import { freePorts } from "../../launcher/src/testing/free-ports.ts";
import { layoutOf } from "../dev-cluster/layout.ts";
import { waitFor } from "../lib/step.ts";
import { type ArgoPrograms, ensureArgo } from "./argo-build.ts";
import { installDefinitions, withoutFinalizers } from "./definitions.ts";
import { BRANCH } from "./git-repository.ts";
import { Program, type ProgramSpec } from "./program.ts";
import { INTERVAL_SECONDS, runningTool, type Tool, type Verdict, type Way } from "./tool.ts";

const NAMESPACE = "gitops-argo";
const API_VERSION = "argoproj.io/v1alpha1";
const PART_OF = { "app.kubernetes.io/part-of": "argocd" };
const healthScript = join(import.meta.dirname, "../../docs/gitops/health.lua");

interface ApplicationStatus {
  readonly sync?: { readonly status: string; readonly revision: string };
  readonly health?: { readonly status: string };
  readonly resources?: readonly {
    readonly kind: string;
    readonly name: string;
    readonly status?: string;
    readonly health?: { readonly status: string; readonly message?: string };
  }[];
}

/**
 * Argo CD's application controller and repository server on this machine, with Redis, as an administrator of the cluster:
 * what its "core" installation has. It applies in two ways at a time, each into a namespace of its own.
 */
export async function startArgo(cluster: TestCluster): Promise<Tool> {
  const built = await ensureArgo();
  await using cleanup = new AsyncDisposableStack();
  cleanup.use(await installDefinitions(cluster, built.definitions));
  const namespace = async (name: string) => {
    cleanup.defer(() => cluster.dropNamespace(name));
    return await cluster.namespace(name);
  };
  const kubectl = await namespace(NAMESPACE);
  const ways = [
    argoWay(kubectl, { name: "client", target: await namespace("gitops-argo-client"), syncOptions: [] }),
    // Differences are then what a dry run of the API server says, too.
    argoWay(kubectl, {
      name: "server",
      target: await namespace("gitops-argo-server"),
      syncOptions: ["ServerSideApply=true"],
    }),
  ];
  for (const object of await configuration()) await kubectl.apply(object);
  const { logDir } = layoutOf(CLUSTER_NAME);
  const logFile = join(logDir, "argocd-application-controller.log");
  cleanup.defer(() => withoutFinalizers(kubectl, ["application"]));
  const programs = await startPrograms(built, { logDir, logFile }, cleanup);
  return runningTool({ ways, logFile, programs }, cleanup);
}

async function configuration(): Promise<readonly object[]> {
  const script = await readFile(healthScript, "utf8");
  const customizations = JSON.stringify({ "typevisor.io/*": { "health.lua": script } });
  return [
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "argocd-cm", labels: PART_OF },
      data: { "resource.customizations": customizations },
    },
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "argocd-secret", labels: PART_OF },
      stringData: { "server.secretkey": randomBytes(32).toString("base64") },
    },
    {
      apiVersion: API_VERSION,
      kind: "AppProject",
      metadata: { name: "default" },
      spec: { sourceRepos: ["*"], destinations: [{ server: "*", namespace: "*" }] },
    },
  ];
}

async function startPrograms(
  { program, scripts }: ArgoPrograms,
  { logDir, logFile }: { readonly logDir: string; readonly logFile: string },
  cleanup: AsyncDisposableStack,
): Promise<readonly Program[]> {
  const directory = await mkdtemp(join(tmpdir(), "typevisor-argo-"));
  cleanup.defer(() => rm(directory, { recursive: true }));
  const [redisPort, repositoryPort, repositoryMetrics, controllerMetrics] = await freePorts(4);
  const start = async (spec: ProgramSpec) => cleanup.use(await Program.start(spec));
  const redis = await start({
    // Debian has the server in the package of its tools, under another name.
    program: "redis-check-rdb",
    calledAs: "redis-server",
    args: ["--bind", "127.0.0.1", "--port", `${redisPort}`, "--save", "", "--appendonly", "no", "--dir", directory],
    logFile: join(logDir, "argocd-redis.log"),
  });
  const env = {
    KUBECONFIG: layoutOf(CLUSTER_NAME).kubeconfig,
    // "https://kubernetes.default.svc" is the cluster of KUBECONFIG.
    ARGOCD_FAKE_IN_CLUSTER: "true",
    ARGOCD_RECONCILIATION_TIMEOUT: `${INTERVAL_SECONDS}s`,
    ARGOCD_RECONCILIATION_JITTER: "0s",
    ARGOCD_GPG_ENABLED: "false",
    ARGOCD_ASK_PASS_SOCK: join(directory, "ask-pass.sock"),
    TMPDIR: directory,
    PATH: `${scripts}:${process.env["PATH"]}`,
  };
  const repositories = await start({
    program,
    calledAs: "argocd-repo-server",
    args: [
      ...["--disable-tls", "--client-ca-path=", `--redis=127.0.0.1:${redisPort}`],
      ...["--address=127.0.0.1", `--port=${repositoryPort}`],
      ...["--metrics-address=127.0.0.1", `--metrics-port=${repositoryMetrics}`],
    ],
    env,
    logFile: join(logDir, "argocd-repo-server.log"),
  });
  const isHealthy = async () => {
    await redis.mustRun();
    await repositories.mustRun();
    const answer = await fetch(`http://127.0.0.1:${repositoryMetrics}/healthz`).catch(() => undefined);
    return answer?.ok;
  };
  await waitFor(isHealthy, { what: "Argo CD's repository server", timeoutMs: 60_000 });
  const controller = await start({
    program,
    calledAs: "argocd-application-controller",
    args: [
      ...[`--namespace=${NAMESPACE}`, `--redis=127.0.0.1:${redisPort}`, `--metrics-port=${controllerMetrics}`],
      ...[`--repo-server=127.0.0.1:${repositoryPort}`, "--repo-server-plaintext"],
      // What Argo CD says of each machine can be read in the Application.
      "--persist-resource-health",
    ],
    env,
    logFile,
  });
  return [redis, repositories, controller];
}

interface ApplicationSpec {
  readonly name: string;
  readonly target: Kubectl;
  readonly syncOptions: readonly string[];
}

function argoWay(kubectl: Kubectl, spec: ApplicationSpec): Way {
  const { name, target } = spec;
  const isAboutIt = (line: string) =>
    new RegExp(`"application":"[^"]*\\b${name}"|namespace: ${target.namespace}\\b`).test(line);
  return {
    title: `Argo CD, ${name}-side`,
    kubectl: target,
    manager: "argocd-controller",
    async follow(url) {
      await kubectl.apply(application(url, spec));
    },
    async verdict(): Promise<Verdict> {
      const found = await kubectl.get("application", name);
      return verdictOf((found?.status ?? {}) as ApplicationStatus);
    },
    hasCompared: (line) => isAboutIt(line) && line.includes("Comparing app state"),
    hasCorrected: (line) =>
      isAboutIt(line) && /Updated sync status|Initiated automated sync|(Applying|Deleting) resource/.test(line),
    async forget() {
      await kubectl.run(["delete", "application", name, "--timeout=90s"], { timeoutMs: 100_000 });
    },
  };
}

function verdictOf({ sync, health, resources = [] }: ApplicationStatus): Verdict {
  const details = resources
    .filter((resource) => resource.status !== "Synced" || (resource.health?.status ?? "Healthy") !== "Healthy")
    .map(({ kind, name, status, health }) => `${kind} ${name} ${status} ${health?.status} (${health?.message})`);
  const isHealthy = sync?.status === "Synced" && health?.status === "Healthy";
  return {
    commit: sync?.revision,
    health: isHealthy ? "healthy" : health?.status === "Degraded" ? "failed" : "under way",
    words: [`${sync?.status} ${health?.status}`, ...details].join("; "),
  };
}

function application(url: string, { name, target, syncOptions }: ApplicationSpec): object {
  return {
    apiVersion: API_VERSION,
    kind: "Application",
    metadata: { name, finalizers: ["resources-finalizer.argocd.argoproj.io"] },
    spec: {
      project: "default",
      source: { repoURL: url, targetRevision: BRANCH, path: "." },
      destination: { server: "https://kubernetes.default.svc", namespace: target.namespace },
      syncPolicy: { automated: { prune: true, selfHeal: true }, syncOptions },
    },
  };
}
