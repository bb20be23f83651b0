import { afterAll, afterEach, beforeAll, describe, expect, it } from "@jest/globals";
import type { VirtualMachineMigrationStatus } from "../../crds/src/virtualmachinemigration.ts";
import { CommandError } from "../../hack/lib/step.ts";
import { openTestCluster, SYSTEM_NAMESPACE, type TestCluster } from "../support/cluster.ts";
import { nodePod } from "../support/datagrams.ts";
import { eventually } from "../support/eventually.ts";
import type { Kubectl, KubeObject } from "../support/kubectl.ts";
import { guestAnswers, migrationManifest, podOf, tellGuest, testGuest } from "../support/vm.ts";

type Migration = KubeObject<VirtualMachineMigrationStatus>;

/** On one node, so a machine that is to leave it has nowhere to go, unless a migration was told that it may stay. */
describe("an eviction", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;
  let node: string;

  /** Names begin as those of machines' pods do, and are not. */
  const stranger = "vm-stranger";

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("drain");
    const own = { interfaces: [{ name: "default", podIP: {} }] };
    await Promise.all([
      kubectl.apply(testGuest("mover", { evictionStrategy: "LiveMigrate" })),
      kubectl.apply(testGuest("stuck", { evictionStrategy: "LiveMigrate", ...own })),
      kubectl.apply(testGuest("softer", { evictionStrategy: "LiveMigrateIfPossible", ...own })),
      kubectl.apply(testGuest("plain")),
    ]);
    for (const name of ["mover", "stuck", "softer", "plain"])
      await kubectl.waitFor("vm", name, "condition=Ready", 120_000);
    await kubectl.waitFor("vm", "mover", "condition=Migratable");
    node = (await kubectl.get("vm", "mover"))?.status.node ?? "";
  });
  afterEach(() => cluster.system.run(["uncordon", node]));
  afterAll(() => cluster.dropNamespace("drain"));

  /** What the API server says to an eviction: "evicted", or why not. */
  const evict = async (pod: string, { dryRun = false } = {}): Promise<string> => {
    const metadata = { name: pod, namespace: "drain" };
    const options = dryRun ? { deleteOptions: { dryRun: ["All"] } } : {};
    const input = JSON.stringify({ apiVersion: "policy/v1", kind: "Eviction", metadata, ...options });
    const path = `/api/v1/namespaces/drain/pods/${pod}/eviction`;
    return kubectl.run(["create", "--raw", path, "-f", "-"], { input }).then(
      () => "evicted",
      (error: unknown) => {
        if (error instanceof CommandError) return error.output;
        throw error;
      },
    );
  };
  const migrations = async () => (await kubectl.list("vmm")) as Migration[];
  const podUid = async (vm: string) => (await kubectl.get("vm", vm))?.status.podUID;

  async function startStranger(): Promise<void> {
    await kubectl.apply(nodePod(stranger));
    await kubectl.waitFor("pod", stranger, "condition=Ready");
  }

  it("may end on nodes that say what guests are given there", async () => {
    const labels = (await cluster.system.get("node", node))?.metadata.labels;
    expect(labels?.["cpu.typevisor.io/class"]).toMatch(/^[0-9a-f]{16}$/);
    expect(labels?.["cpu.typevisor.io/level"]).toMatch(/^x86-64-v[1-4]$/);
  });

  it("is answered as it would be, and comes to nothing, in a dry run", async () => {
    expect(await evict(podOf("mover"), { dryRun: true })).toMatch(/VirtualMachine mover moves to another node/);
    expect(await migrations()).toEqual([]);
    expect(await evict(podOf("plain"), { dryRun: true })).toBe("evicted");
    expect((await kubectl.get("pod", podOf("plain")))?.metadata.deletionTimestamp).toBeUndefined();
  });

  it("of a machine that cannot move is refused with the reason, or stops it with a word, as it asks", async () => {
    const refusal = await evict(podOf("stuck"));
    expect(refusal).toMatch(
      /\(TooManyRequests\).*eviction\.typevisor\.io.*stuck cannot move: Interface default has the pod's own/s,
    );
    const before = await podUid("softer");
    expect(await evict(podOf("softer"))).toBe("evicted");
    await eventually("the machine runs in another pod", 90_000, async () => {
      const vm = await kubectl.get("vm", "softer");
      return vm?.status.phase === "Running" && vm.status.podUID !== before;
    });
    expect(await kubectl.run(["describe", "vm", "softer"])).toMatch(/Warning\s+DrainStops/);
  });

  it("of a machine that asks for nothing stops it, and it starts anew", async () => {
    const before = await podUid("plain");
    expect(await evict(podOf("plain"))).toBe("evicted");
    await eventually("the machine runs in another pod", 90_000, async () => {
      const vm = await kubectl.get("vm", "plain");
      return vm?.status.phase === "Running" && vm.status.podUID !== before;
    });
  });

  it("of a pod that is nobody's machine passes, whatever it is called", async () => {
    await startStranger();
    expect(await evict(stranger)).toBe("evicted");
    await kubectl.run(["wait", `pod/${stranger}`, "--for=delete", "--timeout=60s"], { timeoutMs: 70_000 });
  });

  it("by kubectl drain begins one migration, and leaves the machine alone until it has moved", async () => {
    const before = await podUid("mover");
    const selector = "--pod-selector=app=mover";
    const drained = await cluster.system
      .run(["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", selector, "--timeout=12s"])
      .catch((error: unknown) => error);
    expect(drained).toBeInstanceOf(CommandError);
    expect((drained as CommandError).output).toMatch(
      /will retry after 5s.*moves? to another node|is moving to another node/s,
    );
    const [migration, ...others] = await migrations();
    expect(others).toEqual([]);
    expect(migration?.spec).toMatchObject({ virtualMachineName: "mover", priority: "Drain" });
    expect(await evict("vm2-mover")).toMatch(/NotFound|into this pod|is moving/);
    await guestAnswers(kubectl, "mover");
    // Whoever drained gives up: one migration to take back, and nothing that would begin another.
    await cluster.system.run(["uncordon", node]);
    await kubectl.run(["delete", "vmm", migration?.metadata.name ?? "", "--timeout=90s"], { timeoutMs: 100_000 });
    expect(await migrations()).toEqual([]);
    await kubectl.vmCondition("mover", "Migrating", "False");
    expect(await podUid("mover")).toBe(before);
    await guestAnswers(kubectl, "mover");
  });

  it("waits for a migration that is under way, and finds the pod gone when the machine has moved, not restarted", async () => {
    const before = await kubectl.get("vm", "mover");
    await tellGuest(kubectl, "mover", "fill 0x1000000 2000 3", /fill done/);
    const spec = { virtualMachineName: "mover", target: { allowSourceNode: true }, bandwidth: "512Ki" };
    await kubectl.apply(migrationManifest("there", spec));
    await eventually(
      "memory is being copied",
      90_000,
      async () => (await migrations())[0]?.status?.phase === "Copying",
    );
    expect(await evict(podOf("mover"))).toMatch(/is moving to another node by VirtualMachineMigration there/);
    // On which kubectl drain calls the pod evicted.
    await eventually("the old pod is gone", 120_000, async () => /\(NotFound\)/.test(await evict(podOf("mover"))));
    const vm = await eventually("the machine is in its new pod", 60_000, async () => {
      const seen = await kubectl.get("vm", "mover");
      return seen?.status.podName === "vm2-mover" && seen.status.phase === "Running" ? seen : null;
    });
    const { startedAt, restarts } = before?.status ?? {};
    expect(vm.status).toMatchObject({ startedAt, restarts });
    expect(await kubectl.get("pod", podOf("mover"))).toBeNull();
    expect((await migrations()).map(({ metadata }) => metadata.name)).toEqual(["there"]);
    await kubectl.run(["delete", "vmm", "there", "--timeout=60s"], { timeoutMs: 70_000 });
  });

  it("holds back a machine that must not stop while nobody answers for the webhook, and no one else's pods", async () => {
    await startStranger();
    const scale = (replicas: number) =>
      cluster.system.run(["scale", "deployment/typevisor-operator", `--replicas=${replicas}`]);
    const operators = "app.kubernetes.io/component=controllers";
    await eventually("budgets of the two that must not stop", 60_000, async () => {
      const budgets = (await kubectl.list("pdb")) as KubeObject<{ disruptionsAllowed?: number }>[];
      const held = budgets
        .filter(({ status }) => status?.disruptionsAllowed === 0)
        .map(({ metadata }) => metadata.name);
      return held.sort().join() === "vm-mover,vm-stuck";
    });
    await scale(0);
    try {
      await cluster.system.run(["wait", "pod", "-l", operators, "--for=delete", "--timeout=90s"], {
        timeoutMs: 100_000,
      });
      expect(await evict("vm2-mover")).toMatch(/\(TooManyRequests\).*disruption budget/s);
      expect(await evict(stranger)).toBe("evicted");
      // The next operator finds no authority, and makes another: the API server has to learn of it.
      await cluster.system.run(["delete", "secret", "typevisor-ca", `--namespace=${SYSTEM_NAMESPACE}`]);
    } finally {
      await scale(2);
      await cluster.system.run(["rollout", "status", "deployment/typevisor-operator", "--timeout=120s"], {
        timeoutMs: 130_000,
      });
    }
    await eventually("the webhook answers by its new authority", 60_000, async () =>
      /stuck cannot move: Interface default/.test(await evict(podOf("stuck"))),
    );
    expect(await migrations()).toEqual([]);
  });
});
