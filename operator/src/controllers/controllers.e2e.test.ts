import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { parse, parseAllDocuments, stringify } from "yaml";
import { release, render } from "../../../charts/tests/render.ts";
import type { VirtualMachine } from "../../../crds/src/virtualmachine.ts";
import type { VirtualMachineImageStatus } from "../../../crds/src/virtualmachineimage.ts";
import { ensureTools } from "../../../hack/dev-cluster/tools/tools.ts";
import { type ApiServer, startApiServer } from "../../../hack/lib/apiserver.ts";
import { freePorts } from "../../../launcher/src/testing/free-ports.ts";
import { until } from "../runtime/testing/until.ts";
import type { KubernetesObject, PersistentVolumeClaim, Pod, Secret } from "../runtime/wire.ts";

/**
 * The controllers against a real API server, with the permissions and flags that the chart gives them. There are no
 * nodes and no controller manager: the test plays the kubelet.
 */
const NAMESPACE = "shop";
const repository = join(import.meta.dirname, "../../..");
const PATIENCE_MS = 60_000;

let server: ApiServer;
let flags: string[];
let kubeconfig: string;
let operator: ChildProcess;
let httpPort = 0;

const machineUrl = `/apis/typevisor.io/v1alpha1/namespaces/${NAMESPACE}/virtualmachines`;
const podUrl = `/api/v1/namespaces/${NAMESPACE}/pods`;

async function get<T extends KubernetesObject>(path: string): Promise<T | undefined> {
  const { status, body } = await server.request("GET", path);
  return status === 200 ? (body as T) : undefined;
}
const machine = (name: string) => get<VirtualMachine & KubernetesObject>(`${machineUrl}/${name}`);
const pod = (name: string) => get<Pod>(`${podUrl}/vm-${name}`);
const patch = async (path: string, body: object) => {
  const { status } = await server.request("PATCH", path, { body, contentType: "application/merge-patch+json" });
  expect(status).toBe(200);
};
const reasonOf = (vm: VirtualMachine | undefined) => vm?.status?.conditions?.find((c) => c.type === "Ready")?.reason;

async function apply(name: string, spec: object = {}): Promise<void> {
  const image = { reference: "registry.example/debian:13" };
  const body = {
    apiVersion: "typevisor.io/v1alpha1",
    kind: "VirtualMachine",
    metadata: { name, labels: { app: name } },
    spec: {
      memory: { size: "64Mi" },
      boot: { kernel: { image, path: "/boot/vmlinuz" } },
      disks: [{ name: "root", image }],
      ...spec,
    },
  };
  const answer = await server.request("POST", machineUrl, { body });
  expect([answer.status, answer.body]).toMatchObject([201, {}]);
}

/** What a kubelet would report. */
async function kubeletSays(name: string, status: object): Promise<void> {
  await patch(`${podUrl}/vm-${name}/status`, { status });
}
const launcherStatus = (state: object) => [
  { name: "launcher", image: "x", imageID: "", ready: false, restartCount: 0, state },
];

async function leaders(): Promise<(string | undefined)[]> {
  const { body } = await server.request("GET", `/apis/coordination.k8s.io/v1/namespaces/${release.namespace}/leases`);
  return (body as { items: { spec: { holderIdentity?: string } }[] }).items.map(({ spec }) => spec.holderIdentity);
}

/** Starts the operator, and again when it ends by itself, as a kubelet does: without its lease it must end. */
function launch(): void {
  const args = [
    join(repository, "operator/src/main.ts"),
    ...flags,
    `--kubeconfig=${kubeconfig}`,
    `--http-port=${httpPort}`,
    "--webhook-port=0",
  ];
  operator = spawn(process.execPath, args, {
    env: { ...process.env, POD_NAMESPACE: release.namespace, POD_NAME: "operator-0" },
    stdio: ["ignore", "ignore", "inherit"],
  });
  operator.once("exit", launch);
}

async function stop(signal: NodeJS.Signals): Promise<number | null> {
  operator.removeListener("exit", launch);
  const ended = once(operator, "exit");
  operator.kill(signal);
  return (await ended)[0] as number | null;
}

/** The chart's rules for the operator, and the flags that it gives it. */
async function installChart(): Promise<void> {
  const documents = parseAllDocuments(await render("default")).map((document) => document.toJS());
  const ours = documents.filter((document) => /Role|ServiceAccount|PriorityClass/.test(document?.kind ?? ""));
  await server.kubectl(["apply", "-f", "-"], ours.map((document) => stringify(document)).join("\n---\n"));
  const deployment = documents.find((document) => document?.kind === "Deployment");
  const container = deployment.spec.template.spec.containers[0];
  flags = (container.args as string[]).filter((flag) => !flag.startsWith("--http-port"));
  const account = `system:serviceaccount:${release.namespace}:${deployment.spec.template.spec.serviceAccountName}`;
  const config = parse(await readFile(server.kubeconfig, "utf8"));
  config.users[0].user.as = account;
  kubeconfig = join(dirname(server.kubeconfig), "operator.kubeconfig");
  await writeFile(kubeconfig, stringify(config), { mode: 0o600 });
}

beforeAll(async () => {
  server = await startApiServer();
  for (const namespace of [release.namespace, NAMESPACE]) {
    await server.kubectl(["create", "namespace", namespace]);
    await server.kubectl(["create", "serviceaccount", "default", "-n", namespace]).catch(() => undefined);
  }
  await server.kubectl(["label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted"]);
  await server.kubectl(["apply", "--server-side", "-f", join(repository, "crds")]);
  await server.kubectl(["wait", "--for=condition=Established", "crd/virtualmachines.typevisor.io"]);
  await installChart();
  launch();
}, 30 * 60_000);

afterAll(async () => {
  operator?.removeListener("exit", launch);
  operator?.kill("SIGKILL");
  await server?.[Symbol.asyncDispose]();
});

describe("the controllers with the chart's permissions", () => {
  it("make a Secret and a pod that Pod Security restricted admits, and a whole status", async () => {
    await apply("web");
    const made = await until(() => pod("web"), PATIENCE_MS);
    const secretName = made.spec?.volumes?.find((volume) => volume.name === "machine")?.secret?.secretName;
    const secret = await get<Secret>(`/api/v1/namespaces/${NAMESPACE}/secrets/${secretName}`);
    expect(Object.keys(secret?.data ?? {}).sort()).toEqual(["ca.crt", "machine.json", "tls.crt", "tls.key"]);
    const vm = await until(async () => {
      const seen = await machine("web");
      return seen?.status?.podUID === made.metadata?.uid && seen;
    }, PATIENCE_MS);
    expect(vm.status).toMatchObject({ phase: "Pending", observedGeneration: 1, overhead: { memory: "50Mi" } });
    expect(vm.status?.conditions).toHaveLength(8);
  }, 120_000);

  it("tell how a launcher ended, wait, and start it again", async () => {
    const first = await until(() => pod("web"), PATIENCE_MS);
    const now = new Date().toISOString();
    const message = JSON.stringify({
      version: 1,
      reason: "GuestTripleFault",
      message: "the guest's processor shut down",
    });
    const terminated = { exitCode: 80, reason: "Error", message, startedAt: now, finishedAt: now };
    await kubeletSays("web", { phase: "Failed", containerStatuses: launcherStatus({ terminated }) });
    const crashed = await until(async () => {
      const seen = await machine("web");
      return seen?.status?.phase === "CrashBackOff" && seen;
    }, PATIENCE_MS);
    expect(crashed.status?.lastTermination).toMatchObject({ reason: "GuestTripleFault", exitCode: 80 });
    const second = await until(async () => {
      const seen = await pod("web");
      return seen?.metadata?.uid !== first.metadata?.uid && seen;
    }, PATIENCE_MS);
    expect(second.metadata?.annotations?.["typevisor.io/restarts"]).toBe("1");
    const described = await server.kubectl(["describe", "vm", "web", "-n", NAMESPACE]);
    expect(described).toMatch(/Warning\s+GuestTripleFault/);
    expect(described).toMatch(/Normal\s+PodCreated/);
  }, 120_000);

  it("go on after the API server was restarted", async () => {
    await server.restart();
    await apply("later");
    await until(() => pod("later"), PATIENCE_MS);
  }, 180_000);

  it("say what is wrong with a pod that the API server refuses", async () => {
    await apply("urgent", { template: { spec: { priorityClassName: "no-such-class" } } });
    await until(async () => reasonOf(await machine("urgent")) === "PodForbidden", PATIENCE_MS);
    const message = (await machine("urgent"))?.status?.conditions?.find((c) => c.type === "Stalled")?.message;
    expect(message).toMatch(/no-such-class.*spec\.template\.spec\.priorityClassName/);
  }, 120_000);

  it("say what a kubelet warns of while a pod waits", async () => {
    await apply("seedless");
    const waiting = await until(() => pod("seedless"), PATIENCE_MS);
    const { name = "", uid = "" } = waiting.metadata ?? {};
    const post = async (path: string, body: object) =>
      expect(await server.request("POST", path, { body })).toMatchObject({ status: 201 });
    await post("/api/v1/nodes", { metadata: { name: "node-1" } });
    await patch("/api/v1/nodes/node-1/status", { status: { conditions: [{ type: "Ready", status: "True" }] } });
    await post(`${podUrl}/${name}/binding`, { metadata: { name }, target: { kind: "Node", name: "node-1" } });
    const time = new Date().toISOString();
    const event = {
      metadata: { name: `${name}.1`, namespace: NAMESPACE },
      involvedObject: { apiVersion: "v1", kind: "Pod", namespace: NAMESPACE, name, uid },
      type: "Warning",
      reason: "FailedMount",
      message: 'MountVolume.SetUp failed for volume "disk-root" : secret "web-seed" not found',
      source: { component: "kubelet", host: "node-1" },
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    };
    await post(`/api/v1/namespaces/${NAMESPACE}/events`, event);
    await until(async () => reasonOf(await machine("seedless")) === "SecretNotFound", PATIENCE_MS);
    const message = (await machine("seedless"))?.status?.conditions?.find((c) => c.type === "Ready")?.message;
    expect(message).toMatch(/^Secret web-seed of spec\.disks\[root\]/);
  }, 120_000);

  it("stop a machine that shall be off", async () => {
    await patch(`${machineUrl}/later`, { spec: { runStrategy: "Halted" } });
    await until(async () => (await pod("later")) === undefined, PATIENCE_MS);
    await until(async () => (await machine("later"))?.status?.phase === "Stopped", PATIENCE_MS);
  }, 120_000);

  it("leave a running pod alone when the operator is killed, and the next one takes over", async () => {
    const before = await until(() => pod("web"), PATIENCE_MS);
    await stop("SIGKILL");
    launch();
    await patch(`${machineUrl}/later`, { spec: { runStrategy: "Always" } });
    await until(() => pod("later"), PATIENCE_MS);
    expect((await pod("web"))?.metadata?.uid).toBe(before.metadata?.uid);
  }, 180_000);

  it("release the lease on SIGTERM, so that the next one leads at once", async () => {
    expect(await stop("SIGTERM")).toBe(0);
    expect(await leaders()).toEqual([""]);
  }, 60_000);

  it("neither work nor are ready with definitions that an upgrade left behind, and say what those lack", async () => {
    const crd = parse(await readFile(join(repository, "crds/typevisor.io_virtualmachines.yaml"), "utf8"));
    const old = structuredClone(crd);
    delete old.spec.versions[0].schema.openAPIV3Schema.properties.status.properties.overhead;
    const replace = (definition: object) => server.kubectl(["replace", "-f", "-"], stringify(definition));
    await replace(old);
    [httpPort = 0] = await freePorts(1);
    launch();
    const ready = async () => {
      const answer = await fetch(`http://127.0.0.1:${httpPort}/readyz`).catch(() => undefined);
      return answer && { status: answer.status, text: await answer.text() };
    };
    const refused = await until(async () => {
      const answer = await ready();
      return answer?.text.includes("older than this operator") && answer;
    }, PATIENCE_MS);
    expect(refused.status).toBe(503);
    expect(refused.text).toMatch(
      /they lack VirtualMachine status\.overhead, VirtualMachine status\.overhead\.memory; apply/,
    );
    expect(await leaders()).toEqual([""]);
    await replace(crd);
    await until(async () => (await ready())?.status === 200, PATIENCE_MS);
    await until(async () => (await leaders())[0] !== "", PATIENCE_MS);
  }, 180_000);
});

describe("an import, with Kubernetes' own binder and garbage collector", () => {
  const claimsUrl = `/api/v1/namespaces/${NAMESPACE}/persistentvolumeclaims`;
  const imageUrl = `/apis/typevisor.io/v1alpha1/namespaces/${NAMESPACE}/virtualmachineimages`;
  const claim = (name: string) => get<PersistentVolumeClaim>(`${claimsUrl}/${name}`);
  let controllerManager: ChildProcess;

  beforeAll(async () => {
    if (operator.exitCode !== null) launch();
    const controllers = ["persistentvolume-binder", "persistentvolumeclaim-protection", "persistentvolume-protection"];
    const { kube } = await ensureTools();
    const flags = [
      `--kubeconfig=${server.kubeconfig}`,
      "--leader-elect=false",
      "--secure-port=0",
      "--pvclaimbinder-sync-period=1s",
      `--controllers=${[...controllers, "garbage-collector"].map((name) => `${name}-controller`).join(",")}`,
    ];
    controllerManager = spawn(join(kube, "kube-controller-manager"), flags, { stdio: "ignore" });
    const classes = [
      { metadata: { name: "volumes" }, provisioner: "kubernetes.io/no-provisioner" },
      {
        metadata: { name: "imports" },
        provisioner: "typevisor.io/import",
        parameters: { storageClassName: "volumes" },
      },
    ];
    for (const body of classes) await server.request("POST", "/apis/storage.k8s.io/v1/storageclasses", { body });
    const body = {
      apiVersion: "typevisor.io/v1alpha1",
      kind: "VirtualMachineImage",
      metadata: { name: "debian" },
      spec: { source: { http: { url: "https://cloud.example/debian.qcow2" } } },
    };
    expect((await server.request("POST", imageUrl, { body })).status).toBe(201);
  });

  afterAll(() => {
    controllerManager?.kill("SIGKILL");
  });

  async function createClaim(name: string, volumeMode: "Block" | "Filesystem", storageClassName = "imports") {
    const accessModes = ["ReadWriteOnce"];
    const volume = {
      metadata: { name },
      spec: {
        capacity: { storage: "1Gi" },
        accessModes,
        volumeMode,
        storageClassName: "volumes",
        hostPath: { path: "/x" },
      },
    };
    expect((await server.request("POST", "/api/v1/persistentvolumes", { body: volume })).status).toBe(201);
    const dataSourceRef = { apiGroup: "typevisor.io", kind: "VirtualMachineImage", name: "debian" };
    const resources = { requests: { storage: "1Gi" } };
    const spec = { accessModes, volumeMode, storageClassName, dataSourceRef, resources };
    expect((await server.request("POST", claimsUrl, { body: { metadata: { name }, spec } })).status).toBe(201);
    return (await claim(name))?.metadata?.uid ?? "";
  }

  /** The importer's pod, once its claim has a volume. */
  const importer = (uid: string) =>
    until(async () => {
      const prime = await claim(`prime-${uid}`);
      return prime?.status?.phase === "Bound" && (await get<Pod>(`${podUrl}/import-${uid}`));
    }, PATIENCE_MS);

  /** What a kubelet would report of its end. */
  async function importerEnds(uid: string, reason: "Completed" | "ChecksumMismatch"): Promise<void> {
    const ended = reason === "Completed";
    const message = JSON.stringify({ version: 1, reason, message: `because of ${reason}` });
    const state = { terminated: { exitCode: ended ? 0 : 71, message, finishedAt: new Date().toISOString() } };
    const container = { name: "importer", image: "x", imageID: "", ready: false, restartCount: 0, state };
    const status = { phase: ended ? "Succeeded" : "Failed", containerStatuses: [container] };
    await patch(`${podUrl}/import-${uid}/status`, { status });
  }

  const nothingLeft = (uid: string) =>
    until(
      async () => (await get(`${podUrl}/import-${uid}`)) === undefined && (await claim(`prime-${uid}`)) === undefined,
      PATIENCE_MS,
    );

  it.each(["Filesystem", "Block"] as const)(
    "hands a filled volume over to the claim, mode %s",
    async (mode) => {
      const name = `root-${mode.toLowerCase()}`;
      const uid = await createClaim(name, mode);
      const made = await importer(uid);
      expect(made.spec).toMatchObject({ restartPolicy: "Never", automountServiceAccountToken: false });
      expect((await claim(name))?.status?.phase).toBe("Pending");
      // Killed in the middle, it goes on.
      await stop("SIGKILL");
      launch();
      await importerEnds(uid, "Completed");
      await until(async () => (await claim(name))?.status?.phase === "Bound", PATIENCE_MS);
      expect((await claim(name))?.spec?.volumeName).toBe(name);
      expect((await claim(name))?.metadata?.annotations).toMatchObject({ "typevisor.io/imported-volume": name });
      await nothingLeft(uid);
      expect((await claim(name))?.status?.phase).toBe("Bound");
    },
    180_000,
  );

  it("leaves nothing behind when the claim is deleted in the middle, and tells why one failed", async () => {
    const uid = await createClaim("deleted", "Filesystem");
    await importer(uid);
    await importerEnds(uid, "ChecksumMismatch");
    const reason = async () => {
      const image = await get<KubernetesObject & { status?: VirtualMachineImageStatus }>(`${imageUrl}/debian`);
      return image?.status?.conditions?.find(({ type }) => type === "Stalled")?.reason;
    };
    await until(async () => (await reason()) === "ChecksumMismatch", PATIENCE_MS);
    expect((await server.request("DELETE", `${claimsUrl}/deleted`)).status).toBe(200);
    await nothingLeft(uid);
    await until(async () => (await reason()) === "AsExpected", PATIENCE_MS);
  }, 180_000);

  it("tells of a claim that was bound to an empty volume", async () => {
    await createClaim("empty", "Filesystem", "volumes");
    const state = async () => (await claim("empty"))?.metadata?.annotations?.["typevisor.io/import-state"];
    await until(async () => (await state())?.startsWith("Refused: ") === true, PATIENCE_MS);
    expect((await claim("empty"))?.metadata?.annotations).not.toHaveProperty(["typevisor.io/imported-volume"]);
  }, 120_000);
});
