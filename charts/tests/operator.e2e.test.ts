import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { parseAllDocuments, stringify } from "yaml";
import type { VirtualMachine } from "../../crds/src/virtualmachine.ts";
import { type ApiServer, startApiServer } from "../../hack/lib/apiserver.ts";
import { waitFor } from "../../hack/lib/step.ts";
import { release, render } from "./render.ts";

/** The operator with the arguments and the rights that the chart gives it, against an API server without nodes. */
const operatorMain = join(import.meta.dirname, "../../operator/src/main.ts");
const namespace = "team-a";

interface Deployment {
  readonly kind: string;
  readonly spec: {
    readonly template: { readonly spec: { readonly containers: readonly [{ readonly args: string[] }] } };
  };
}

let server: ApiServer;
let operator: ChildProcess;
const log: string[] = [];

beforeAll(async () => {
  server = await startApiServer();
  for (const name of [release.namespace, namespace]) {
    await server.kubectl(["create", "namespace", name]);
    await server.kubectl(["create", "serviceaccount", "default", `--namespace=${name}`]);
  }
  await install(await render("default", "--no-hooks"));
}, 30 * 60_000);

afterAll(async () => {
  await stop();
  await server?.[Symbol.asyncDispose]();
});

/** Applies a render, and starts the operator as its Deployment would. */
async function install(chart: string): Promise<void> {
  await server.kubectl(["apply", "--server-side", "-f", "-"], chart);
  const documents = parseAllDocuments(chart).map((document) => document.toJS() as Deployment | null);
  const deployment = documents.find((document) => document?.kind === "Deployment");
  const args = deployment?.spec.template.spec.containers[0].args ?? [];
  operator = start([
    ...args,
    "--http-port=0",
    "--webhook-port=0",
    `--kubeconfig=${await kubeconfigOf("typevisor-operator")}`,
  ]);
}

async function stop(): Promise<void> {
  if (operator?.exitCode !== null) return;
  const ended = once(operator, "exit");
  operator.kill("SIGTERM");
  await ended;
}

function start(args: readonly string[]): ChildProcess {
  const env = { ...process.env, POD_NAME: "operator-0", POD_NAMESPACE: release.namespace };
  const child = spawn("node", [operatorMain, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => log.push(...text.split("\n").filter(Boolean)));
  }
  return child;
}

/** A kubeconfig with a token of the service account, as a pod has it. */
async function kubeconfigOf(serviceAccount: string): Promise<string> {
  const file = join(dirname(server.kubeconfig), `${serviceAccount}.kubeconfig`);
  const token = (await server.kubectl(["create", "token", serviceAccount, `--namespace=${release.namespace}`])).trim();
  const authority = Buffer.from(server.certificateAuthority).toString("base64");
  const cluster = { server: server.url, "certificate-authority-data": authority };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster }],
    users: [{ name: serviceAccount, user: { token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: serviceAccount } }],
    "current-context": "test",
  };
  await writeFile(file, stringify(config), { mode: 0o600 });
  return file;
}

/** Waits for the object at `path`, and until it is as wanted; ends early when the operator does. */
async function eventually<T>(what: string, path: string, isWanted: (object: T) => boolean = () => true): Promise<T> {
  const look = async () => {
    if (operator.exitCode !== null) throw new Error(`the operator ended:\n${log.join("\n")}`);
    const { status, body } = await server.request("GET", path);
    return status === 200 && isWanted(body as T) ? (body as T) : undefined;
  };
  return waitFor(look, { what, timeoutMs: 60_000 }).catch((error: Error) => {
    throw new Error(`${error.message}\n${log.slice(-20).join("\n")}`);
  });
}

describe("the operator, as the chart starts it", () => {
  const machine = {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: { name: "web", namespace },
    spec: { memory: { size: "64Mi" }, boot: { kernel: { image: { reference: "a:1" }, path: "/vmlinuz" } } },
  };
  const pods = `/api/v1/namespaces/${namespace}/pods`;

  it("makes a machine's pod and Secret, writes its status and events, and takes the pod away again", async () => {
    await server.kubectl(["apply", "-f", "-"], JSON.stringify(machine));
    await eventually("the pod", `${pods}/vm-web`);
    const vm = await eventually<VirtualMachine>(
      "the status",
      `/apis/typevisor.io/v1alpha1/namespaces/${namespace}/virtualmachines/web`,
      ({ status }) => status?.podName === "vm-web",
    );
    expect(vm.metadata.generation).toBe(1);
    expect(vm.status?.conditions?.map(({ type }) => type).sort()).toEqual([
      "Migratable",
      "Migrating",
      "Paused",
      "Ready",
      "Reconciling",
      "RestartRequired",
      "Running",
      "Stalled",
    ]);
    await eventually<{ items: { reason: string }[] }>(
      "an event",
      `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
      ({ items }) => items.some(({ reason }) => reason === "PodCreated"),
    );
    const secrets = await server.kubectl(["get", "secrets", `--namespace=${namespace}`, "-o", "name"]);
    expect(secrets).toMatch(/^secret\/vm-web-/m);

    await server.kubectl([
      "patch",
      "vm",
      "web",
      `--namespace=${namespace}`,
      "--type=merge",
      "-p",
      '{"spec":{"runStrategy":"Halted"}}',
    ]);
    await eventually<{ items: unknown[] }>("the pod's end", pods, ({ items }) => items.length === 0);
  }, 120_000);

  it("holds the lease and the authority that the chart names", async () => {
    const system = `--namespace=${release.namespace}`;
    expect(
      await server.kubectl(["get", "lease", "typevisor-operator", system, "-o", "jsonpath={.spec.holderIdentity}"]),
    ).toMatch(/^operator-0_/);
    expect(await server.kubectl(["get", "secret", "typevisor-ca", system, "-o", "name"])).toBe("secret/typevisor-ca\n");
  });

  it("tells the API server whom to trust and what to ask when a machine is evicted", async () => {
    const path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/typevisor-eviction";
    interface Configuration {
      readonly webhooks: readonly { readonly clientConfig: { readonly caBundle?: string; readonly service: object } }[];
    }
    const { webhooks } = await eventually<Configuration>(
      "the webhook's authority",
      path,
      ({ webhooks: [webhook] }) => webhook?.clientConfig.caBundle !== undefined,
    );
    expect(Buffer.from(webhooks[0]?.clientConfig.caBundle ?? "", "base64").toString()).toContain("BEGIN CERTIFICATE");
    expect(webhooks).toMatchObject([
      {
        name: "eviction.typevisor.io",
        failurePolicy: "Ignore",
        matchConditions: [{ expression: expect.stringContaining("request.name") }],
        clientConfig: {
          service: { name: "typevisor-webhook", path: expect.stringMatching(/^\/evictions\/[0-9a-f]{40}$/), port: 443 },
        },
      },
    ]);
    // A later helm upgrade, or a GitOps tool that applies again, leaves it so.
    await server.kubectl(["apply", "--server-side", "-f", "-"], await render("default", "--no-hooks"));
    expect((await server.request("GET", path)).body).toMatchObject({ webhooks });
  }, 120_000);

  it("has a node agent label the node that it is on, and change nothing else of any", async () => {
    for (const name of ["node-1", "node-2"]) {
      const body = { metadata: { name, labels: { zone: "a" } } };
      expect((await server.request("POST", "/api/v1/nodes", { body })).status).toBe(201);
    }
    const bound = ["--bound-object-kind=Node", "--bound-object-name=node-1"];
    const account = ["create", "token", "typevisor-node", `--namespace=${release.namespace}`];
    const token = (await server.kubectl([...account, ...bound])).trim();
    const contentType = "application/merge-patch+json";
    const change = async (node: string, body: object) => {
      const { status, body: answer } = await server.request("PATCH", `/api/v1/nodes/${node}`, {
        body,
        contentType,
        token,
      });
      return `${status} ${(answer as { message?: string }).message ?? ""}`;
    };
    const labels = { "cpu.typevisor.io/level": "x86-64-v3" };
    const own = { metadata: { labels, annotations: { "cpu.typevisor.io/features": "x" } } };
    expect(await change("node-1", own)).toMatch(/^200/);
    expect(await change("node-2", own)).toMatch(/only the node that it is on/);
    for (const wrong of [
      { metadata: { labels: { zone: "b" } } },
      { metadata: { labels: { zone: null } } },
      { metadata: { labels: { "node-role.kubernetes.io/control-plane": "" } } },
      { metadata: { annotations: { note: "x" } } },
      { metadata: { finalizers: ["example.com/stays"] } },
      { spec: { unschedulable: true } },
    ]) {
      expect(await change("node-1", wrong)).toMatch(/only labels and annotations below cpu\.typevisor\.io/);
    }
    expect(await change("node-1/status", { status: {} })).toMatch(/^403/);
    expect(await change("node-1", { metadata: { labels: { "cpu.typevisor.io/level": null } } })).toMatch(/^200/);
    // Nobody else is held to it.
    await server.kubectl(["label", "node", "node-2", "zone=b", "--overwrite"]);
  }, 120_000);

  it("is never told that it may not", () => {
    expect(log.filter((line) => /forbidden|cannot/i.test(line))).toEqual([]);
  });
});

describe("the operator of two namespaces", () => {
  const machineIn = (where: string) => ({
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: { name: "web", namespace: where },
    spec: { memory: { size: "64Mi" }, boot: { kernel: { image: { reference: "a:1" }, path: "/vmlinuz" } } },
  });
  interface Deletion {
    readonly kind: string;
  }

  it("serves these, with rights in these alone, and leaves machines elsewhere unseen", async () => {
    await stop();
    const without = ["--no-hooks", "--set", "crds.install=false"];
    const before = parseAllDocuments(await render("default", ...without)).map((each) => each.toJS() as Deletion | null);
    const rights = before.filter((each) => each !== null && /Role/.test(each.kind));
    await server.kubectl(["delete", "-f", "-"], rights.map((each) => JSON.stringify(each)).join("\n---\n"));
    for (const name of ["team-b", "elsewhere"]) {
      await server.kubectl(["create", "namespace", name]);
      await server.kubectl(["create", "serviceaccount", "default", `--namespace=${name}`]);
    }
    log.length = 0;
    await install(await render("default", ...without, "--set", `watchNamespaces={${namespace},team-b}`));
    const machines = ["elsewhere", "team-b"].map((where) => JSON.stringify(machineIn(where)));
    await server.kubectl(["apply", "-f", "-"], machines.join("\n---\n"));
    const path = (where: string) => `/apis/typevisor.io/v1alpha1/namespaces/${where}/virtualmachines/web`;
    await eventually<VirtualMachine>("the status", path("team-b"), ({ status }) => status?.podName === "vm-web");
    expect((await server.request("GET", path("elsewhere"))).body).toMatchObject({ status: { observedGeneration: -1 } });
    const account = `--as=system:serviceaccount:${release.namespace}:typevisor-operator`;
    const may = (where: string) =>
      server.kubectl(["auth", "can-i", "create", "pods", `--namespace=${where}`, account]).catch(() => "no\n");
    expect([await may("team-b"), await may("elsewhere")]).toEqual(["yes\n", "no\n"]);
    expect(log.filter((line) => /forbidden|cannot/i.test(line))).toEqual([]);
  }, 120_000);
});
