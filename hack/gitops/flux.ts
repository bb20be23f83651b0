import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CLUSTER_NAME, type TestCluster } from "../../e2e/support/cluster.ts";
import type { Kubectl } from "../../e2e/support/kubectl.ts";
import { freePorts } from "../../launcher/src/testing/free-ports.ts";
import { layoutOf } from "../dev-cluster/layout.ts";
import { installDefinitions, withoutFinalizers } from "./definitions.ts";
import { ensureFlux, type FluxPrograms } from "./flux-build.ts";
import { BRANCH } from "./git-repository.ts";
import { Program } from "./program.ts";
import { INTERVAL_SECONDS, runningTool, type Tool, type Verdict, type Way } from "./tool.ts";

const NAMESPACE = "gitops-flux";
const NAME = "shop";
const INTERVAL = `${INTERVAL_SECONDS}s`;

interface KustomizationStatus {
  readonly lastAppliedRevision?: string;
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
    readonly message: string;
  }[];
}

/** Flux's source-controller and kustomize-controller on this machine, as an administrator of the cluster. */
export async function startFlux(cluster: TestCluster): Promise<Tool> {
  const programs = await ensureFlux();
  await using cleanup = new AsyncDisposableStack();
  cleanup.use(await installDefinitions(cluster, programs.definitions));
  cleanup.defer(() => cluster.dropNamespace(NAMESPACE));
  const kubectl = await cluster.namespace(NAMESPACE);
  const { logDir } = layoutOf(CLUSTER_NAME);
  const logFile = join(logDir, "kustomize-controller.log");
  cleanup.defer(() => withoutFinalizers(kubectl, ["kustomization", "gitrepository"]));
  const controllers = await startControllers(programs, { logDir, logFile }, cleanup);
  return runningTool({ ways: [fluxWay(kubectl)], logFile, programs: controllers }, cleanup);
}

async function startControllers(
  { sourceController, kustomizeController }: FluxPrograms,
  { logDir, logFile }: { readonly logDir: string; readonly logFile: string },
  cleanup: AsyncDisposableStack,
): Promise<readonly Program[]> {
  const storage = await mkdtemp(join(tmpdir(), "typevisor-flux-"));
  cleanup.defer(() => rm(storage, { recursive: true }));
  const [port = 0] = await freePorts(1);
  const args = [
    "--enable-leader-election=false",
    "--metrics-addr=127.0.0.1:0",
    "--health-addr=127.0.0.1:0",
    "--log-encoding=json",
  ];
  const served = [
    `--storage-path=${storage}`,
    `--storage-addr=127.0.0.1:${port}`,
    `--storage-adv-addr=127.0.0.1:${port}`,
  ];
  const env = { KUBECONFIG: layoutOf(CLUSTER_NAME).kubeconfig, RUNTIME_NAMESPACE: NAMESPACE };
  return [
    cleanup.use(
      await Program.start({
        program: sourceController,
        args: [...args, ...served],
        env,
        logFile: join(logDir, "source-controller.log"),
      }),
    ),
    cleanup.use(await Program.start({ program: kustomizeController, args, env, logFile })),
  ];
}

function fluxWay(kubectl: Kubectl): Way {
  return {
    title: "Flux",
    kubectl,
    manager: "kustomize-controller",
    async follow(url) {
      await kubectl.apply(gitRepository(url));
      await kubectl.apply(kustomization());
    },
    async verdict(): Promise<Verdict> {
      const { status } = (await kubectl.get("kustomization", NAME)) ?? {};
      const { lastAppliedRevision, conditions } = (status ?? {}) as KustomizationStatus;
      const ready = conditions?.find(({ type }) => type === "Ready");
      const failed = ready?.status === "False" && ready.reason === "HealthCheckFailed";
      return {
        commit: lastAppliedRevision?.replace(`${BRANCH}@sha1:`, ""),
        health: ready?.status === "True" ? "healthy" : failed ? "failed" : "under way",
        words: `${ready?.reason}: ${ready?.message}`,
      };
    },
    hasCompared: (line) => line.includes("server-side apply completed"),
    hasCorrected: (line) => /"(configured|created|deleted)"/.test(line),
    async forget() {
      await kubectl.run(["delete", "kustomization", NAME, "--timeout=90s"], { timeoutMs: 100_000 });
      await kubectl.run(["delete", "gitrepository", NAME]);
    },
  };
}

function gitRepository(url: string): object {
  return {
    apiVersion: "source.toolkit.fluxcd.io/v1",
    kind: "GitRepository",
    metadata: { name: NAME },
    spec: { interval: INTERVAL, url, ref: { branch: BRANCH } },
  };
}

function kustomization(): object {
  return {
    apiVersion: "kustomize.toolkit.fluxcd.io/v1",
    kind: "Kustomization",
    metadata: { name: NAME },
    spec: {
      interval: INTERVAL,
      retryInterval: INTERVAL,
      timeout: "90s",
      path: "./",
      prune: true,
      wait: true,
      targetNamespace: NAMESPACE,
      sourceRef: { kind: "GitRepository", name: NAME },
    },
  };
}
