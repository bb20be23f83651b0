import { existsSync } from "node:fs";
import { cp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "../dev-cluster/tools/cache.ts";
import { run, say } from "../lib/step.ts";
import { InputMissing } from "./image.ts";
import { keyOf } from "./key.ts";

const repository = join(import.meta.dirname, "../..");
/** Until there is a release: the commit that stands for one. */
const COMMIT = "5679d7aad2bd5751e074eb5a36098f16b1abd943";
const programs = ["launcher", "operator"] as const;

/**
 * Directory of the version before, for tests of upgrades: dist/launcher, dist/operator and charts/typevisor, whose images
 * are called `...-before`. It is built from the repository's history; a clone without history has this version in its place,
 * by the name of the other, and says so.
 */
export async function versionBefore(): Promise<string> {
  const git = ["git", "-C", repository];
  const hasHistory = await run([...git, "cat-file", "-e", `${COMMIT}^{commit}`]).then(
    () => true,
    () => false,
  );
  if (!hasHistory) return await thisVersion();
  return await cached({
    key: `version-before-${COMMIT.slice(0, 12)}`,
    title: "Building the version before",
    estimateSeconds: 20,
    build: async (directory) => {
      const archive = join(directory, "source.tar");
      await run([...git, "archive", "--output", archive, COMMIT]);
      await run(["tar", "-xf", archive, "-C", directory]);
      await rm(archive);
      await installPackages(directory);
      await run([process.execPath, "hack/bundle/main.ts", ...programs], { cwd: directory, timeoutMs: 300_000 });
      // Controllers that run in a cluster never load it.
      await rm(join(directory, "dist/operator/kubeconfig.js"));
      await rm(join(directory, "node_modules"), { recursive: true });
      await nameImages(directory);
    },
  });
}

/** Those of this version where they are the same. */
async function installPackages(directory: string): Promise<void> {
  const [before, now] = await Promise.all(
    [directory, repository].map((root) => readFile(join(root, "package-lock.json"), "utf8")),
  );
  if (before === now) await symlink(join(repository, "node_modules"), join(directory, "node_modules"));
  else await run(["npm", "ci", "--no-audit", "--no-fund"], { cwd: directory, timeoutMs: 600_000 });
}

async function thisVersion(): Promise<string> {
  say("There is no history here: tests of upgrades go from this version to itself");
  const parts = [...programs.map((program) => `dist/${program}`), "charts/typevisor"];
  const missing = parts.find((part) => !existsSync(join(repository, part)));
  if (missing !== undefined) throw new InputMissing(missing, "hack/build");
  return await cached({
    key: `version-before-here-${await keyOf(parts.map((part) => ({ path: join(repository, part) })))}`,
    title: "Copying this version",
    estimateSeconds: 2,
    build: async (directory) => {
      await mkdir(join(directory, "charts"));
      for (const part of parts) await cp(join(repository, part), join(directory, part), { recursive: true });
      await nameImages(directory);
    },
  });
}

/** By the chart alone it says which images are its own, as a release does by its tag: an upgrade brings others by itself. */
async function nameImages(directory: string): Promise<void> {
  const path = join(directory, "charts/typevisor/values.yaml");
  const values = await readFile(path, "utf8");
  await writeFile(path, values.replaceAll(/^( +repository: typevisor\/(?:operator|launcher))$/gm, "$1-before"));
}
