import { chmod, cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import { copyModule, goFor } from "./go-modules.ts";

const VERSION = "3.6.1";
const MODULE = "github.com/argoproj/argo-cd/v3";
/** The oldest that this version compiles with. */
const GO = "go1.27.3";

/** Argo CD's own program has its web interface and command line in it as well, which takes longer to build. */
const MAIN = `package main

import (
	"os"
	"path/filepath"

	controller "${MODULE}/cmd/argocd-application-controller/commands"
	repositories "${MODULE}/cmd/argocd-repo-server/commands"
)

func main() {
	command := controller.NewCommand()
	if filepath.Base(os.Args[0]) == "argocd-repo-server" {
		command = repositories.NewCommand()
	}
	if command.Execute() != nil {
		os.Exit(1)
	}
}
`;

export interface ArgoPrograms {
  /** Is what it is called as: argocd-application-controller or argocd-repo-server. */
  readonly program: string;
  /** Directory of scripts that the repository server finds by PATH. */
  readonly scripts: string;
  /** CustomResourceDefinitions of Applications and AppProjects. */
  readonly definitions: string;
}

/** Argo CD's application controller and repository server, from Go modules. */
export async function ensureArgo(): Promise<ArgoPrograms> {
  const dir = await cached({
    key: `argo-cd-${VERSION}`,
    title: `Building Argo CD ${VERSION}`,
    estimateSeconds: 240,
    async build(dir, logFile) {
      const go = await goFor(logFile, GO);
      const source = join(dir, "source");
      await copyModule(go, `${MODULE}@v${VERSION}`, source);
      // A module of its own, which the first one has beside itself by a `replace`.
      await copyModule(go, `github.com/argoproj/argo-cd/gitops-engine/v3@v${VERSION}`, join(source, "gitops-engine"));
      const main = join(source, "cmd/both");
      await mkdir(main);
      await writeFile(join(main, "main.go"), MAIN);
      await go(["build", "-trimpath", "-ldflags", "-s -w", "-o", join(dir, "argocd"), "./cmd/both"], source);
      for (const kind of ["application", "appproject"]) {
        await cp(join(source, `manifests/crds/${kind}-crd.yaml`), join(dir, `definitions/${kind}.yaml`));
      }
      for (const name of ["git-verify-wrapper.sh", "gpg-wrapper.sh"]) {
        const script = join(dir, "scripts", name);
        await cp(join(source, "hack", name), script);
        // A module has no executable files.
        await chmod(script, 0o755);
      }
      await rm(source, { recursive: true });
    },
  });
  return { program: join(dir, "argocd"), scripts: join(dir, "scripts"), definitions: join(dir, "definitions") };
}
