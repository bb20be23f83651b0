import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { parseAllDocuments } from "yaml";
import { ensureHelm, ensurePrometheusOperatorDefinitions } from "../../hack/dev-cluster/tools/tools.ts";
import { type ApiServer, startApiServer } from "../../hack/lib/apiserver.ts";
import { run } from "../../hack/lib/step.ts";
import { kubeconform, writeSchemas } from "./kubeconform.ts";
import { chartDirectory, previousChart, release, render, valueSets } from "./render.ts";

/** The chart against a real API server that has no nodes: what it installs is checked, and nothing runs. */
let server: ApiServer;
let helmProgram: string;
let schemas: string;

const helm = (...args: string[]) =>
  run([helmProgram, `--kubeconfig=${server.kubeconfig}`, `--namespace=${release.namespace}`, ...args]);

beforeAll(async () => {
  helmProgram = join(await ensureHelm(), "helm");
  server = await startApiServer();
  for (const name of [release.namespace, "team-a", "team-b"]) await server.kubectl(["create", "namespace", name]);
  // What a cluster has where the chart's monitors and rules are switched on.
  await server.kubectl(["create", "-f", await ensurePrometheusOperatorDefinitions()]);
  await server.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
  schemas = join(dirname(server.kubeconfig), "schemas");
  await writeSchemas(server, schemas);
  // What the controller manager does in a whole cluster.
  await server.kubectl(["create", "serviceaccount", "default", `--namespace=${release.namespace}`]);
}, 30 * 60_000);

afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
});

describe.each(valueSets)("with %s values", (valueSet) => {
  it("kubeconform finds nothing wrong", async () => {
    const output = await kubeconform(await render(valueSet), schemas);
    expect(output).toMatch(/Valid: [1-9]\d*, Invalid: 0, Errors: 0, Skipped: 0/);
  });

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

describe("kubeconform", () => {
  it("would find a misspelt field and a wrong type", async () => {
    const service = { apiVersion: "v1", kind: "Service", metadata: { name: "a" } };
    const misspelt = { ...service, spec: { port: [] } };
    await expect(kubeconform(JSON.stringify(misspelt), schemas)).rejects.toThrow(
      /additional properties 'port' not allowed/,
    );
    const mistyped = { ...service, spec: { ports: [{ port: "http" }] } };
    await expect(kubeconform(JSON.stringify(mistyped), schemas)).rejects.toThrow(/got string, want integer/);
  });
});

describe("an upgrade from the chart before", () => {
  const machine = {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: { name: "steady", namespace: "team-a" },
    spec: { memory: { size: "64Mi" }, boot: { kernel: { image: { reference: "a:1" }, path: "/vmlinuz" } } },
  };
  const look = async () => {
    const { metadata, spec } = JSON.parse(
      await server.kubectl(["get", "vm", "steady", "--namespace=team-a", "-o", "json"]),
    ) as { metadata: { uid: string; generation: number; resourceVersion: string }; spec: object };
    const { uid, generation, resourceVersion } = metadata;
    return { uid, generation, resourceVersion, spec };
  };
  const replicas = () =>
    server.kubectl([
      "get",
      "deployments",
      `--namespace=${release.namespace}`,
      "-o",
      "jsonpath={.items[*].spec.replicas}",
    ]);
  const kinds = () => server.kubectl(["api-resources", "--api-group=typevisor.io", "-o", "name"]);

  it("keeps machines and the values that were set, brings the new kinds, and can be taken back", async () => {
    await helm("install", release.name, previousChart, "--set", "operator.replicas=3");
    await server.kubectl(["wait", "--for=condition=Established", "crd/virtualmachines.typevisor.io", "--timeout=30s"]);
    await server.kubectl(["apply", "-f", "-"], JSON.stringify(machine));
    const before = await look();
    expect(await kinds()).not.toContain("virtualmachinemigrations");
    await helm("upgrade", release.name, chartDirectory, "--reset-then-reuse-values");
    await server.kubectl(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
    expect(await kinds()).toContain("virtualmachinemigrations.typevisor.io");
    expect(await replicas()).toBe("3");
    expect(await look()).toEqual(before);
    await helm("rollback", release.name, "1");
    expect(await replicas()).toBe("3");
    expect(await look()).toEqual(before);
    // The kinds that came stay, and with them the objects that are of them.
    expect(await kinds()).toContain("virtualmachinemigrations.typevisor.io");
    await helm("upgrade", release.name, chartDirectory, "--reset-then-reuse-values");
    await helm("uninstall", release.name);
    expect(await look()).toEqual(before);
  }, 120_000);

  it("with --reuse-values alone is refused where values are new, and names the way", async () => {
    await helm("install", release.name, previousChart);
    await expect(helm("upgrade", release.name, chartDirectory, "--reuse-values")).rejects.toThrow(
      /--reset-then-reuse-values/,
    );
    await helm("uninstall", release.name);
  }, 60_000);
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

  const system = release.namespace;
  const virtualmachines = { group: "typevisor.io", resource: "virtualmachines" };
  const migrations = { group: "typevisor.io", resource: "virtualmachinemigrations" };
  const lease = { group: "coordination.k8s.io", resource: "leases", namespace: system };
  const webhooks = { group: "admissionregistration.k8s.io", resource: "validatingwebhookconfigurations" };
  const roleBindings = { group: "rbac.authorization.k8s.io", resource: "rolebindings", namespace: "team-a" };
  it.each<[string, "may" | "may not", string, ResourceAttributes]>([
    [
      "operator",
      "may",
      "write status",
      { verb: "patch", ...virtualmachines, subresource: "status", namespace: "team-a" },
    ],
    ["operator", "may", "create pods", { verb: "create", resource: "pods", namespace: "team-a" }],
    ["operator", "may", "write machines' Secrets", { verb: "patch", resource: "secrets", namespace: "team-a" }],
    ["operator", "may not", "read Secrets", { verb: "get", resource: "secrets", namespace: "team-a" }],
    ["operator", "may not", "list Secrets", { verb: "list", resource: "secrets", namespace: "team-a" }],
    ["operator", "may", "watch nodes", { verb: "watch", resource: "nodes" }],
    ["operator", "may", "renew its lease", { verb: "update", ...lease, name: "typevisor-operator" }],
    ["operator", "may not", "take another's lease", { verb: "update", ...lease, name: "other" }],
    ["operator", "may not", "replace a spec", { verb: "update", ...virtualmachines, namespace: "team-a" }],
    ["operator", "may not", "patch a spec", { verb: "patch", ...virtualmachines, namespace: "team-a" }],
    ["operator", "may not", "delete a machine", { verb: "delete", ...virtualmachines, namespace: "team-a" }],
    ["operator", "may", "mark a migration", { verb: "patch", ...migrations, namespace: "team-a" }],
    ["operator", "may not", "replace a migration", { verb: "update", ...migrations, namespace: "team-a" }],
    [
      "operator",
      "may not",
      "enter pods",
      { verb: "create", resource: "pods", subresource: "exec", namespace: "team-a" },
    ],
    ["operator", "may not", "change nodes", { verb: "patch", resource: "nodes" }],
    ["operator", "may not", "give rights", { verb: "create", ...roleBindings }],
    ["operator", "may not", "be someone else", { verb: "impersonate", resource: "users" }],
    ["operator", "may", "keep its webhook's configuration", { verb: "patch", ...webhooks, name: "typevisor-eviction" }],
    ["operator", "may not", "change anyone else's webhook", { verb: "patch", ...webhooks, name: "other" }],
    ["node", "may", "label nodes", { verb: "patch", resource: "nodes" }],
    ["node", "may not", "make nodes", { verb: "create", resource: "nodes" }],
    ["node", "may not", "say how nodes are", { verb: "patch", resource: "nodes", subresource: "status" }],
    ["node", "may not", "read pods", { verb: "get", resource: "pods", namespace: system }],
    ["node", "may not", "read Secrets", { verb: "get", resource: "secrets", namespace: system }],
  ])("the %s %s %s", async (account, answer, _what, resourceAttributes) => {
    const user = `system:serviceaccount:${system}:typevisor-${account}`;
    const groups = ["system:serviceaccounts", `system:serviceaccounts:${system}`, "system:authenticated"];
    const review = await server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
      body: {
        apiVersion: "authorization.k8s.io/v1",
        kind: "SubjectAccessReview",
        spec: { user, groups, resourceAttributes },
      },
    });
    expect(review.body).toMatchObject({ status: { allowed: answer === "may" } });
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
    expect(
      await server.kubectl(["get", "validatingwebhookconfigurations,validatingadmissionpolicies", "-o", "name"]),
    ).toBe("");
    expect((await server.kubectl(["get", "all", `--namespace=${release.namespace}`, "-o", "name"])).trim()).toBe("");
    await helm("install", release.name, chartDirectory);
    expect(await server.kubectl(["get", "vm", "kept", "--namespace=team-a", "-o", "name"])).toContain("kept");
  }, 60_000);

  it("is the only one in its cluster", async () => {
    const { name, namespace } = release;
    await expect(helm("install", "second", chartDirectory)).rejects.toThrow(
      `Typevisor is installed already, as release "${name}" in namespace "${namespace}". Upgrade that one,`,
    );
    await helm("uninstall", name);
    const output = await helm("install", "second", chartDirectory).catch((error: Error) => error.message);
    expect(output).toContain("CustomResourceDefinition virtualmachines.typevisor.io is there already");
    // The way out that it names, for each definition.
    for (const crd of ["virtualmachines", "virtualmachineimages", "virtualmachinemigrations"].map(definitionOf)) {
      const owner = ["meta.helm.sh/release-name=second", `meta.helm.sh/release-namespace=${namespace}`];
      await server.kubectl(["annotate", "--overwrite", "crd", crd, ...owner]);
    }
    await helm("install", "second", chartDirectory);
    expect(await server.kubectl(["get", "vm", "kept", "--namespace=team-a", "-o", "name"])).toContain("kept");
  }, 120_000);

  it("takes definitions and machines along when it is told not to keep them", async () => {
    await helm("upgrade", "second", chartDirectory, "--set", "crds.keep=false");
    await helm("uninstall", "second", "--wait");
    expect(await server.kubectl(["get", "crd", "-o", "name"])).not.toContain("typevisor.io");
  }, 60_000);
});

function definitionOf(plural: string): string {
  return `${plural}.typevisor.io`;
}

interface ResourceAttributes {
  readonly verb: string;
  readonly group?: string;
  readonly resource: string;
  readonly subresource?: string;
  readonly name?: string;
  readonly namespace?: string;
}
