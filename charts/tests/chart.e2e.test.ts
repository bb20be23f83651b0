import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { ensureHelm } from "../../hack/dev-cluster/tools/tools.ts";
import { type ApiServer, startApiServer } from "../../hack/lib/apiserver.ts";
import { run } from "../../hack/lib/step.ts";
import { chartDirectory, release, render, valueSets } from "./render.ts";

/** The chart against a real API server that has no nodes: what it installs is checked, and nothing runs. */
let server: ApiServer;
let helmProgram: string;

const helm = (...args: string[]) =>
  run([helmProgram, `--kubeconfig=${server.kubeconfig}`, `--namespace=${release.namespace}`, ...args]);

beforeAll(async () => {
  helmProgram = join(await ensureHelm(), "helm");
  server = await startApiServer();
  for (const name of [release.namespace, "team-a", "team-b"]) await server.kubectl(["create", "namespace", name]);
}, 30 * 60_000);

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

describe.each(valueSets)("with %s values", (valueSet) => {
  it("every object is valid, field by field, and draws no warning", async () => {
    const documents = parseAllDocuments(await render(valueSet)).map((document) => document.toJS() as object | null);
    const manifest = documents.filter((document) => document !== null).map((document) => JSON.stringify(document));
    const output = await server.kubectl(
      ["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"],
      manifest.join("\n---\n"),
    );
    expect(output.trim().split("\n")).toHaveLength(manifest.length);
  });
});

describe("an installed release", () => {
  beforeAll(async () => {
    await helm("install", release.name, chartDirectory);
  }, 60_000);

  it("serves VirtualMachines and tells the way on", async () => {
    const notes = await helm("get", "notes", release.name);
    const example = /kubectl apply -f - <<'EOF'\n([\s\S]*?)\n\s*EOF/.exec(notes)?.[1];
    expect(example).toBeDefined();
    await server.kubectl(["wait", "--for=condition=Established", "crd/virtualmachines.typevisor.io", "--timeout=30s"]);
    const output = await server.kubectl(["apply", "--dry-run=server", "-f", "-"], example);
    expect(output).toMatch(/virtualmachine.typevisor.io\/hello created/);
  });

  const controllers = `system:serviceaccount:${release.namespace}:typevisor-operator`;
  const node = `system:serviceaccount:${release.namespace}:typevisor-node`;

  it.each([
    [controllers, "patch", "virtualmachines.typevisor.io/status", "team-a", true],
    [controllers, "create", "pods", "team-a", true],
    [controllers, "watch", "nodes", "", true],
    [controllers, "create", "leases.coordination.k8s.io", release.namespace, true],
    [controllers, "update", "leases.coordination.k8s.io/typevisor-operator", release.namespace, true],
    // No controller ever writes a spec, runs a command in a pod, or gives itself rights.
    [controllers, "update", "virtualmachines.typevisor.io", "team-a", false],
    [controllers, "patch", "virtualmachines.typevisor.io", "team-a", false],
    [controllers, "delete", "virtualmachines.typevisor.io", "team-a", false],
    [controllers, "create", "pods/exec", "team-a", false],
    [controllers, "patch", "nodes", "", false],
    [controllers, "update", "leases.coordination.k8s.io/other", release.namespace, false],
    [controllers, "create", "rolebindings.rbac.authorization.k8s.io", "team-a", false],
    [controllers, "impersonate", "users", "", false],
    [node, "get", "nodes", "", false],
    [node, "get", "pods", release.namespace, false],
    [node, "get", "secrets", release.namespace, false],
  ])("%s may %s %s in '%s': %p", async (user, verb, resource, namespace, expected) => {
    const [kind = "", name] = splitResource(resource);
    const args = ["auth", "can-i", verb, kind, ...(name ? [name] : []), `--as=${user}`];
    const answer = server.kubectl([...args, ...(namespace ? [`--namespace=${namespace}`] : [])]).catch(() => "no");
    expect((await answer).trim().split("\n").at(-1)).toBe(expected ? "yes" : "no");
  });

  it("lets who may edit a namespace edit its machines, and who may view it see them", async () => {
    const rules = async (role: string) =>
      JSON.stringify(JSON.parse(await server.kubectl(["get", "clusterrole", role, "-o", "json"])));
    expect(await rules("typevisor-edit")).toContain('"rbac.authorization.k8s.io/aggregate-to-edit":"true"');
    expect(await rules("typevisor-view")).toContain('"rbac.authorization.k8s.io/aggregate-to-view":"true"');
  });

  it("upgrades in place, and leaves the machines where they are when it is uninstalled", async () => {
    const machine = {
      apiVersion: "typevisor.io/v1alpha1",
      kind: "VirtualMachine",
      metadata: { name: "kept", namespace: "team-a" },
      spec: { memory: { size: "64Mi" }, boot: { kernel: { image: { reference: "a:1" }, path: "/vmlinuz" } } },
    };
    await server.kubectl(["apply", "-f", "-"], JSON.stringify(machine));
    await helm("upgrade", release.name, chartDirectory, "--set", "operator.replicas=1");
    await helm("uninstall", release.name);
    expect(await server.kubectl(["get", "vm", "kept", "--namespace=team-a", "-o", "name"])).toContain("kept");
    expect((await server.kubectl(["get", "all", `--namespace=${release.namespace}`, "-o", "name"])).trim()).toBe("");
    await helm("install", release.name, chartDirectory);
    expect(await server.kubectl(["get", "vm", "kept", "--namespace=team-a", "-o", "name"])).toContain("kept");
  }, 60_000);
});

/** "leases.coordination.k8s.io/typevisor-operator" names one object; "pods/exec" and ".../status" are subresources. */
function splitResource(resource: string): readonly string[] {
  const [kind = "", rest] = resource.split("/");
  return rest === undefined || ["exec", "status"].includes(rest) ? [resource] : [`${kind}/${rest}`];
}
