import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { FakeKubelet } from "../../hack/fake-node/fake-kubelet.ts";
import { UnreliablePath } from "../../hack/fake-node/unreliable-path.ts";
import { type ApiServer, startApiServer } from "../../hack/lib/apiserver.ts";
import { waitFor } from "../../hack/lib/step.ts";
import { OperatorProcess } from "./operator-process.ts";

const NAMESPACE = "many";
const SYSTEM_NAMESPACE = "typevisor-system";
const COUNTED = 20;
const REACH_DEADLINE_MS = 300_000;
const api = `/apis/typevisor.io/v1alpha1/namespaces/${NAMESPACE}/virtualmachines`;

interface Machine {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly status?: { readonly phase?: string; readonly podUID?: string; readonly restarts?: number };
}

interface MachinePod {
  readonly metadata: { readonly uid: string; readonly ownerReferences?: readonly { readonly uid: string }[] };
}

/** The real operator and API server; nodes and launchers are played. */
describe("many machines at once", () => {
  let server: ApiServer;
  let path: UnreliablePath;
  let kubelet: FakeKubelet;
  let operator: OperatorProcess;

  beforeAll(async () => {
    server = await startApiServer();
    for (const namespace of [SYSTEM_NAMESPACE, NAMESPACE]) await server.kubectl(["create", "namespace", namespace]);
    await server.kubectl(["create", "serviceaccount", "default", "-n", NAMESPACE]);
    await server.kubectl(["apply", "--server-side", "-f", join(import.meta.dirname, "../../crds")]);
    await server.kubectl(["wait", "--for=condition=Established", "crd/virtualmachines.typevisor.io"]);
    path = await UnreliablePath.open(server);
    kubelet = new FakeKubelet(server, NAMESPACE);
    await kubelet.start();
    const surroundings = { server: path.url, token: server.token, namespace: SYSTEM_NAMESPACE };
    operator = await OperatorProcess.start({ ...surroundings, launcherPort: kubelet.port });
    // It makes that once it leads.
    const authority = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/secrets/typevisor-ca`;
    const hasAuthority = async () => (await server.request("GET", authority)).status === 200;
    await waitFor(hasAuthority, { what: "the operator's certificate authority", timeoutMs: 60_000 });
  }, 40 * 60_000);
  afterAll(async () => {
    await operator?.[Symbol.asyncDispose]();
    await kubelet?.[Symbol.asyncDispose]();
    await path?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  const list = async <T>(from: string) => ((await server.request("GET", from)).body as { items: T[] }).items;
  const create = async (names: readonly string[]) => {
    const kernel = { image: { reference: "registry.example/guest:test" }, path: "/boot/vmlinuz", cmdline: "" };
    const spec = { memory: { size: "64Mi" }, boot: { kernel } };
    const answers = await Promise.all(
      names.map((name) =>
        server.request("POST", api, {
          body: { apiVersion: "typevisor.io/v1alpha1", kind: "VirtualMachine", metadata: { name }, spec },
        }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(names.map(() => 201));
  };
  const allRun = (count: number) =>
    waitFor(
      async () => (await list<Machine>(api)).filter(({ status }) => status?.phase === "Running").length === count,
      { what: `${count} machines to run`, timeoutMs: REACH_DEADLINE_MS, intervalMs: 500 },
    );
  const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}-${index}`);

  it("starts one with a handful of writes to the API server", async () => {
    path.writes.clear();
    await create(names("calm", COUNTED));
    await allRun(COUNTED);
    const writes = [...path.writes].filter(([what]) => !what.endsWith(" leases"));
    const each = Object.fromEntries(writes.map(([what, count]) => [what, count / COUNTED]));
    expect(each).toMatchObject({ "PATCH secrets": 1, "POST pods": 1 });
    expect(each["POST events"]).toBeLessThanOrEqual(2);
    // That the guest runs, and what came half a second before that or earlier.
    expect(each["PATCH virtualmachines/status"]).toBeLessThanOrEqual(4);
    expect(Object.keys(each)).toHaveLength(4);
  });

  it(
    "gives each its one pod while a tenth of the requests fail, watches break, and the API server is started anew",
    async () => {
      path.failing = 0.1;
      await create(names("stormy", 60));
      path.cutWatches();
      await waitFor(async () => kubelet.podsSeenAtMs.size > 30, { what: "some pods", timeoutMs: REACH_DEADLINE_MS });
      await server.restart("killed");
      await create(names("late", 40));
      await waitFor(async () => kubelet.podsSeenAtMs.size > 90, { what: "more pods", timeoutMs: REACH_DEADLINE_MS });
      expect(path.cutWatches()).toBeGreaterThan(0);
      await allRun(120);

      const machines = await list<Machine>(api);
      const pods = await list<MachinePod>(`/api/v1/namespaces/${NAMESPACE}/pods`);
      expect(pods.map(({ metadata }) => metadata.ownerReferences?.[0]?.uid).sort()).toEqual(
        machines.map(({ metadata }) => metadata.uid).sort(),
      );
      expect(machines.map(({ status }) => status?.podUID).sort()).toEqual(
        pods.map(({ metadata }) => metadata.uid).sort(),
      );
      // None was made, taken away and made again.
      expect(kubelet.podsSeenAtMs.size).toBe(120);
      expect(machines.filter(({ status }) => (status?.restarts ?? 0) > 0)).toEqual([]);
      expect(Math.min(...Object.values(path.failed))).toBeGreaterThan(0);
    },
    2 * REACH_DEADLINE_MS,
  );
});
