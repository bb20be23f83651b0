import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { cp, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import { findGo } from "../dev-cluster/tools/go.ts";
import { type RunOptions, run } from "../lib/step.ts";

/** Of kustomize-controller and of the kinds of source-controller: the newest that Go 1.26 builds. */
const VERSION = "1.9.6";

export interface Flux {
  /** kustomize-controller */
  readonly program: string;
  /** CustomResourceDefinitions of Kustomizations and of all kinds of sources. */
  readonly definitions: string;
}

/** Flux's kustomize-controller and the kinds that it works with, from Go modules: four minutes on two cores that do nothing else. */
export async function ensureFlux(): Promise<Flux> {
  const dir = await cached({
    key: `flux-${VERSION}`,
    title: `Building Flux's kustomize-controller ${VERSION}`,
    estimateSeconds: 240,
    build: async (dir, logFile) => {
      const go = goIn(await findGo(), logFile);
      const source = join(dir, "source");
      // A module is read-only, and the one of its API, which it has beside itself by a `replace`, is another one.
      await copyModule(go, "github.com/fluxcd/kustomize-controller", source);
      await copyModule(go, "github.com/fluxcd/kustomize-controller/api", join(source, "api"));
      await copyModule(go, "github.com/fluxcd/source-controller", join(dir, "sources"));
      const definitions = join(dir, "definitions");
      await cp(join(source, "config/crd/bases"), definitions, { recursive: true });
      await cp(join(dir, "sources/config/crd/bases"), definitions, { recursive: true });
      const program = join(dir, "kustomize-controller");
      await go(["build", "-trimpath", "-ldflags", "-s -w", "-o", program, "."], source);
      for (const done of [source, join(dir, "sources")]) await rm(done, { recursive: true });
    },
  });
  return { program: join(dir, "kustomize-controller"), definitions: join(dir, "definitions") };
}

type Go = (args: readonly string[], cwd: string) => Promise<string>;

function goIn(program: string, logFile: string): Go {
  const env = { GOTOOLCHAIN: "local", GOFLAGS: "-mod=readonly", GOWORK: "off", CGO_ENABLED: "0" };
  const advice = "check that the Go module proxy can be reached (GOPROXY), then run this again";
  return (args, cwd) => run([program, ...args], { cwd, env, logFile, advice } satisfies RunOptions);
}

async function copyModule(go: Go, module: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const { Dir } = JSON.parse(await go(["mod", "download", "-json", `${module}@v${VERSION}`], target)) as {
    Dir: string;
  };
  await cp(Dir, target, { recursive: true });
  await run(["chmod", "-R", "u+w", target]);
}

/** kustomize-controller on this machine, as an administrator of the cluster; ends with its `using`. */
export async function startFlux(
  { program }: Flux,
  cluster: { readonly kubeconfig: string; readonly namespace: string },
  logFile: string,
): Promise<AsyncDisposable> {
  const log = openSync(logFile, "w");
  const args = [
    "--feature-gates=ExternalArtifact=true",
    "--enable-leader-election=false",
    "--metrics-addr=127.0.0.1:0",
    "--health-addr=127.0.0.1:0",
    "--log-encoding=json",
  ];
  const env = { ...process.env, KUBECONFIG: cluster.kubeconfig, RUNTIME_NAMESPACE: cluster.namespace };
  const child: ChildProcess = spawn(program, args, { env, stdio: ["ignore", log, log] });
  closeSync(log);
  await once(child, "spawn");
  return {
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill();
      await ended;
    },
  };
}
