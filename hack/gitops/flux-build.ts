import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Cached, cached } from "../dev-cluster/tools/cache.ts";
import { copyModule, type Go, goFor } from "./go-modules.ts";

/** Of both controllers: the newest that Go 1.26 builds. */
const VERSION = "1.9.6";
/** Of the library that serves what source-controller has fetched. It asks for 0.18.3, which not every Go module proxy has. */
const ARTIFACT = "github.com/fluxcd/pkg/artifact@v0.18.0";

export interface FluxPrograms {
  readonly kustomizeController: string;
  readonly sourceController: string;
  /** CustomResourceDefinitions of Kustomizations and of all kinds of sources. */
  readonly definitions: string;
}

/** Flux's controllers and the kinds that they work with, from Go modules. */
export async function ensureFlux(): Promise<FluxPrograms> {
  const kustomize = await cached(kustomizeController);
  const source = await cached(sourceController);
  return {
    kustomizeController: join(kustomize, "kustomize-controller"),
    sourceController: join(source, "source-controller"),
    definitions: join(kustomize, "definitions"),
  };
}

const kustomizeController: Cached = {
  key: `flux-${VERSION}`,
  title: `Building Flux's kustomize-controller ${VERSION}`,
  estimateSeconds: 240,
  async build(dir, logFile) {
    const source = join(dir, "source");
    const go = await goFor(logFile);
    await copyController(go, "kustomize-controller", source);
    await copyModule(go, `github.com/fluxcd/source-controller@v${VERSION}`, join(dir, "sources"));
    const definitions = join(dir, "definitions");
    await cp(join(source, "config/crd/bases"), definitions, { recursive: true });
    await cp(join(dir, "sources/config/crd/bases"), definitions, { recursive: true });
    await go(["build", "-trimpath", "-ldflags", "-s -w", "-o", join(dir, "kustomize-controller"), "."], source);
    for (const done of [source, join(dir, "sources")]) await rm(done, { recursive: true });
  },
};

const sourceController: Cached = {
  key: `flux-source-${VERSION}`,
  title: `Building Flux's source-controller ${VERSION}`,
  estimateSeconds: 300,
  async build(dir, logFile) {
    const source = join(dir, "source");
    const go = await goFor(logFile);
    await copyController(go, "source-controller", source);
    await go(["mod", "edit", `-replace=${ARTIFACT.replace(/@.*/, "")}=${ARTIFACT}`], source);
    // The checksum of that one is not in the module's go.sum.
    await go(
      ["build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o", join(dir, "source-controller"), "."],
      source,
    );
    await rm(source, { recursive: true });
  },
};

/** A module is read-only, and the one of its API, which it has beside itself by a `replace`, is another one. */
async function copyController(go: Go, name: string, target: string): Promise<void> {
  await copyModule(go, `github.com/fluxcd/${name}@v${VERSION}`, target);
  await copyModule(go, `github.com/fluxcd/${name}/api@v${VERSION}`, join(target, "api"));
}
