/**
 * Has Flux's kustomize-controller apply a repository with machines, a claim and a Service to the e2e tier's native cluster:
 * it is ready when they are, stays as it is with nobody's write to any spec, rolls a change out, tells of a machine that
 * cannot start, and prunes. Images are to be in dist/images (hack/setup e2e).
 *
 *   node hack/gitops/main.ts [--minutes 10]
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CLUSTER_NAME, openTestCluster } from "../../e2e/support/cluster.ts";
import { eventually } from "../../e2e/support/eventually.ts";
import setUp from "../../e2e/support/global-setup.ts";
import type { Kubectl, KubeObject } from "../../e2e/support/kubectl.ts";
import { testGuest } from "../../e2e/support/vm.ts";
import { layoutOf } from "../dev-cluster/layout.ts";
import { say } from "../lib/step.ts";
import { ensureFlux, startFlux } from "./flux.ts";
import { type Artifact, Repository } from "./repository.ts";

const NAMESPACE = "gitops-flux";
const INTERVAL = "15s";
/** Who may have written a spec: Flux alone. */
const FLUX = "kustomize-controller";

const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" } } });
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new RangeError("--minutes above 0");

const label = { labels: { repository: "shop" } };
const disks = [
  { name: "data", persistentVolumeClaim: { claimName: "web-data" } },
  { name: "scratch", emptyDisk: { size: "1Mi" } },
];
const web = testGuest("web", { disks });
const queue = testGuest("queue", { interfaces: [{ name: "default", masquerade: { ports: [{ port: 80 }] } }] });
const claim = {
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name: "web-data", ...label },
  spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "16Mi" } } },
};
const service = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "web", ...label },
  spec: { selector: { app: "web" }, ports: [{ port: 80 }] },
};

interface ManagedFields {
  readonly manager: string;
  readonly subresource?: string;
  readonly fieldsV1: { readonly "f:spec"?: object };
}

type Kustomization = KubeObject<{
  readonly lastAppliedRevision?: string;
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason: string;
    readonly message: string;
  }[];
}>;

await setUp();
const cluster = await openTestCluster();
const flux = await ensureFlux();
const kubectl = await cluster.namespace(NAMESPACE);
await kubectl.run(["apply", "--server-side", "-f", flux.definitions]);
await kubectl.run(["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]);
try {
  await using repository = await Repository.open();
  const { kubeconfig } = layoutOf(CLUSTER_NAME);
  const log = join(layoutOf(CLUSTER_NAME).logDir, "kustomize-controller.log");
  say(`log of kustomize-controller: ${log}`);
  await using _flux = await startFlux(flux, { kubeconfig, namespace: NAMESPACE }, log);

  await tell(kubectl, await repository.publish("one", { web, queue, claim, service }));
  await kubectl.apply(kustomization());
  await applied("one");
  say("Flux says that revision one is there, and all of it healthy");
  const first = await specs();
  for (const name of ["web", "queue"]) await mustBe(name, "Ready", "True");

  await staysInSync(first, Date.now() + minutes * 60_000);
  const corrected = (await readFile(log, "utf8")).split("\n").filter((line) => line.includes('"configured"'));
  if (corrected.length > 0) throw new Error(`Flux found differences and wrote: ${corrected.join("\n")}`);
  say(`in sync for ${minutes} min: no generation went up, and nobody but Flux wrote a spec`);

  await tell(
    kubectl,
    await repository.publish("two", { web: { ...web, spec: { ...web.spec, paused: true } }, queue, claim, service }),
  );
  await applied("two");
  await mustBe("web", "Paused", "True");
  say("a change has been rolled out, and Flux waited for it");

  const broken = testGuest("broken", {
    boot: { kernel: { image: { reference: "registry.invalid/none:1" }, path: "/x" } },
  });
  await tell(kubectl, await repository.publish("three", { web, queue, claim, service, broken }));
  const failure = await eventually("Flux tells of the machine that cannot start", 120_000, async () => {
    const ready = (await ofFlux())?.status.conditions?.find(({ type }) => type === "Ready");
    return ready?.status === "False" && ready.message.includes("broken") ? ready : undefined;
  });
  say(`of a machine that cannot start Flux says ${failure.reason}: ${failure.message}`);

  await tell(kubectl, await repository.publish("four", { queue, service }));
  await applied("four");
  for (const gone of ["vm/web", "vm/broken", "pod/vm-web", "pod/vm-broken"]) {
    await kubectl.run(["wait", gone, "--for=delete", "--timeout=60s"], { timeoutMs: 70_000 });
  }
  await mustBe("queue", "Ready", "True");
  say("what the repository has no more is gone, and the rest runs");
  await kubectl.run(["delete", "kustomization", "shop", "--timeout=90s"], { timeoutMs: 100_000 });
} finally {
  await kubectl
    .run(["patch", "kustomization", "shop", "--type=merge", "-p", '{"metadata":{"finalizers":null}}'])
    .catch(() => "");
  await cluster.dropNamespace(NAMESPACE);
  await kubectl.run(["delete", "-f", flux.definitions, "--ignore-not-found"]);
}

function kustomization(): object {
  return {
    apiVersion: "kustomize.toolkit.fluxcd.io/v1",
    kind: "Kustomization",
    metadata: { name: "shop" },
    spec: {
      interval: INTERVAL,
      retryInterval: INTERVAL,
      timeout: "90s",
      path: "./",
      prune: true,
      wait: true,
      targetNamespace: NAMESPACE,
      sourceRef: { kind: "ExternalArtifact", name: "shop" },
    },
  };
}

/** Stands for the source: says that there is a revision. */
async function tell(kubectl: Kubectl, artifact: Artifact): Promise<void> {
  const lastTransitionTime = artifact.lastUpdateTime;
  const ready = { type: "Ready", status: "True", reason: "Succeeded", message: "stored", lastTransitionTime };
  const object = { apiVersion: "source.toolkit.fluxcd.io/v1", kind: "ExternalArtifact", metadata: { name: "shop" } };
  await kubectl.apply({ ...object, spec: {} });
  const status = JSON.stringify({ status: { artifact, conditions: [ready] } });
  await kubectl.run(["patch", "externalartifact", "shop", "--subresource=status", "--type=merge", "-p", status]);
}

async function ofFlux(): Promise<Kustomization | null> {
  return (await kubectl.get("kustomization", "shop")) as Kustomization | null;
}

/** Waits until Flux has applied a revision, and found it healthy. */
async function applied(revision: string): Promise<void> {
  await eventually(`Flux has applied revision ${revision}`, 180_000, async () => {
    const { status } = (await ofFlux()) ?? {};
    const ready = status?.conditions?.find(({ type }) => type === "Ready");
    if (ready?.status === "True" && status?.lastAppliedRevision === revision) return true;
    throw new Error(JSON.stringify(ready));
  });
}

async function mustBe(name: string, type: string, status: string): Promise<void> {
  const vm = await kubectl.get("vm", name);
  const found = vm?.status.conditions?.find((condition) => condition.type === type);
  if (found?.status !== status) throw new Error(`Flux says that all is well, and ${name} is ${JSON.stringify(found)}`);
}

/** Generation and writers of the spec of each object in the repository. */
async function specs(): Promise<string> {
  const kinds = "vm,service,persistentvolumeclaim";
  const text = await kubectl.run(["get", kinds, "-o", "json", "--show-managed-fields"]);
  const { items } = JSON.parse(text) as {
    items: {
      kind: string;
      metadata: { name: string; uid: string; generation?: number; managedFields: ManagedFields[] };
    }[];
  };
  return items
    .map(({ kind, metadata: { name, uid, generation, managedFields } }) => {
      const writers = managedFields.filter(
        ({ fieldsV1, subresource }) => fieldsV1["f:spec"] && subresource === undefined,
      );
      const managers = writers.map(({ manager }) => manager).join(" ");
      // Claims are bound by Kubernetes' own controllers, who write the volume's name into the spec.
      if (kind === "VirtualMachine" && managers !== FLUX)
        throw new Error(`the spec of ${name} was written by ${managers}`);
      return `${kind} ${name} ${uid} generation ${generation} by ${managers}`;
    })
    .join("\n");
}

async function staysInSync(before: string, untilMs: number): Promise<void> {
  while (Date.now() < untilMs) {
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    const now = await specs();
    if (now !== before) throw new Error(`what was\n${before}\nis now\n${now}`);
    await applied("one");
  }
}
