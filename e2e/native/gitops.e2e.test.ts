import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { CommandError } from "../../hack/lib/step.ts";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { podOf, testGuest } from "../support/vm.ts";

const NAMESPACE = "gitops";

interface ManagedFields {
  readonly manager: string;
  readonly operation: string;
  readonly subresource?: string;
  readonly fieldsV1: { readonly "f:spec"?: object };
}

/** What tools that apply a repository do, by kubectl; Flux and Argo CD themselves: hack/gitops. */
describe("machines in a repository", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let directory: string;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace(NAMESPACE);
    directory = await mkdtemp(join(tmpdir(), "typevisor-gitops-"));
  });
  afterAll(async () => {
    await cluster.dropNamespace(NAMESPACE);
    await rm(directory, { recursive: true });
  });

  const labelled = (name: string, changes: Parameters<typeof testGuest>[1] = {}) => {
    const { metadata, ...machine } = testGuest(name, {
      disks: [{ name: "data", emptyDisk: { size: "1Mi" } }],
      ...changes,
    });
    return { ...machine, metadata: { ...metadata, labels: { app: name, repository: "shop" } } };
  };
  const service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", labels: { repository: "shop" } },
    spec: { selector: { app: "web" }, ports: [{ port: 80 }] },
  };
  const write = async (...objects: object[]) => {
    const file = join(directory, "shop.json");
    await writeFile(file, JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
    return file;
  };
  const writersOfSpec = async (name: string) => {
    const vm = JSON.parse(await kubectl.run(["get", "vm", name, "-o", "json", "--show-managed-fields"])) as {
      metadata: { generation: number; managedFields: ManagedFields[] };
    };
    const { generation, managedFields } = vm.metadata;
    const writers = managedFields.filter(({ fieldsV1 }) => fieldsV1["f:spec"] !== undefined);
    const ours = managedFields.filter(({ manager }) => manager.startsWith("typevisor"));
    expect(ours.map(({ subresource }) => subresource)).toEqual(["status"]);
    return { generation, writers: writers.map(({ manager }) => manager) };
  };
  /** kubectl's exit code is 1 where there are differences, and more where it failed. */
  const diff = (...args: string[]) =>
    kubectl.run(["diff", ...args]).catch((error: unknown) => {
      if (error instanceof CommandError && error.exitCode === 1) return error.output;
      throw error;
    });

  it("are in sync once they run: nobody of ours writes a spec, and there is no difference by either way of applying", async () => {
    const file = await write(labelled("web"), service);
    await kubectl.run(["apply", "-f", file]);
    const onServer = ["--server-side", "--field-manager=team"];
    const other = JSON.stringify(labelled("other"));
    await kubectl.run(["apply", ...onServer, "-f", "-"], { input: other });
    await kubectl.run(["wait", "vm", "--all", "--for=condition=Ready", "--timeout=90s"], { timeoutMs: 100_000 });
    expect(await diff("-f", file)).toBe("");
    expect(await kubectl.run(["diff", ...onServer, "-f", "-"], { input: other })).toBe("");
    await kubectl.run(["apply", "-f", file]);
    expect(await writersOfSpec("web")).toEqual({ generation: 1, writers: ["kubectl-client-side-apply"] });
    expect(await writersOfSpec("other")).toEqual({ generation: 1, writers: ["team"] });
  });

  it("can be of two owners, each of whom has the fields that it applies", async () => {
    const apply = (manager: string, spec: object, ...args: string[]) => {
      const manifest = {
        apiVersion: "typevisor.io/v1alpha1",
        kind: "VirtualMachine",
        metadata: { name: "other" },
        spec,
      };
      const flags = ["--server-side", `--field-manager=${manager}`, ...args];
      return kubectl.run(["apply", ...flags, "-f", "-"], { input: JSON.stringify(manifest) });
    };
    const platform = {
      evictionStrategy: "LiveMigrate",
      disks: [{ name: "seed", cloudInit: { userData: "#cloud-config" } }],
    };
    await apply("platform", platform, "--dry-run=server");
    expect((await kubectl.get("vm", "other"))?.metadata.generation).toBe(1);
    await apply("platform", platform);
    const both = await kubectl.get("vm", "other");
    expect(both?.spec).toMatchObject({ evictionStrategy: "LiveMigrate", disks: [{ name: "data" }, { name: "seed" }] });
    await expect(apply("platform", { memory: { size: "64Mi" } })).rejects.toThrow(
      /conflict with "team": .spec.memory.size/,
    );
    await apply("platform", { evictionStrategy: "LiveMigrate" });
    expect((await kubectl.get("vm", "other"))?.spec).toMatchObject({ disks: [{ name: "data" }] });
    await kubectl.vmCondition("other", "RestartRequired", "False");
    expect((await writersOfSpec("other")).writers.sort()).toEqual(["platform", "team"]);
  });

  it("follow a change, and go when the repository has them no more", async () => {
    const paused = await write(labelled("web", { paused: true }), service);
    expect(await diff("-f", paused)).toMatch(/^\+ +paused: true$/m);
    await kubectl.run(["apply", "-f", paused]);
    await kubectl.vmCondition("web", "Paused", "True");
    expect(await diff("-f", paused)).toBe("");
    const without = await write(service);
    const allowed = ["--prune-allowlist=typevisor.io/v1alpha1/VirtualMachine", "--prune-allowlist=core/v1/Service"];
    await kubectl.run(["apply", "--prune", "-l", "repository=shop", ...allowed, "-f", without]);
    await kubectl.run(["wait", "vm/web", "--for=delete", "--timeout=60s"], { timeoutMs: 70_000 });
    await eventually("its pod is gone", 60_000, async () => (await kubectl.get("pod", podOf("web"))) === null);
    expect(await kubectl.get("service", "web")).not.toBeNull();
    // It was not applied by the client, so it is nobody's to prune.
    expect(await kubectl.get("vm", "other")).not.toBeNull();
  });
});
