import { chmod, cp, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../lib/step.ts";
import { type Cached, cached } from "./cache.ts";
import { compareVersions, versions } from "./versions.ts";

/** The `go` program to build with: the machine's own if it is new enough, otherwise one from the Go module proxy. */
export async function findGo(): Promise<string> {
  return (await ownGo()) ?? join(await cached(goToolchain), "bin/go");
}

/** The machine's Go, if it can build what we need. */
export async function ownGo(): Promise<string | undefined> {
  const found = await goVersion("go");
  return found && compareVersions(found, versions.goMinimum) >= 0 ? "go" : undefined;
}

async function goVersion(go: string): Promise<string | undefined> {
  const text = await run([go, "version"], { env: { GOTOOLCHAIN: "local" } }).catch(() => "");
  return /go version go(\d+\.\d+(?:\.\d+)?)/.exec(text)?.[1];
}

/** Go publishes its toolchains as versions of the module golang.org/toolchain (https://go.dev/doc/toolchain). */
const goToolchain: Cached = {
  key: `go-${versions.go}`,
  title: `Fetching Go ${versions.go}`,
  estimateSeconds: 60,
  async build(dir, logFile) {
    const module = `golang.org/toolchain@v0.0.1-go${versions.go}.linux-amd64`;
    const answer = await run(["go", "mod", "download", "-json", module], {
      // Debian 12's Go is too old to know a toolchain from another module; it fetches it all the same.
      env: { GOTOOLCHAIN: "local", GOFLAGS: "-mod=mod" },
      cwd: dir,
      logFile,
      advice: "check that the Go module proxy can be reached (GOPROXY), or install Go 1.26 yourself",
    });
    const { Dir } = JSON.parse(answer) as { Dir: string };
    await cp(Dir, dir, { recursive: true });
    await run(["chmod", "-R", "u+w", dir]);
    await restoreFromModule(dir);
  },
};

/** Undoes what packing as a module did: no executable bits, and go.mod files renamed to _go.mod. */
async function restoreFromModule(dir: string): Promise<void> {
  for (const folder of ["bin", "pkg/tool/linux_amd64"]) {
    for (const name of await readdir(join(dir, folder))) await chmod(join(dir, folder, name), 0o755);
  }
  for (const name of await readdir(dir, { recursive: true })) {
    if (!name.endsWith("/_go.mod")) continue;
    await rename(join(dir, name), join(dir, name.replace(/_go\.mod$/, "go.mod")));
  }
}
