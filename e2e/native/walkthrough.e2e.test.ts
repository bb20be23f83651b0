import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openTestCluster, type TestCluster } from "../support/cluster.ts";
import type { Kubectl } from "../support/kubectl.ts";
import { openConsole, podOf, TEST_GUEST_READY, testGuest } from "../support/vm.ts";

describe("from kubectl apply to the guest's console", () => {
  let cluster: TestCluster;
  let kubectl: Kubectl;

  beforeAll(async () => {
    cluster = await openTestCluster();
    kubectl = await cluster.namespace("walkthrough");
    await kubectl.apply(testGuest("hello"));
    await kubectl.waitFor("vm", "hello", "condition=Ready");
  });
  afterAll(() => cluster.dropNamespace("walkthrough"));

  it("shows the VM as running, with its node, pod and address", async () => {
    const vm = await kubectl.get("vm", "hello");
    const pod = await kubectl.get("pod", podOf("hello"));
    expect(vm?.status).toMatchObject({
      observedGeneration: 1,
      phase: "Running",
      node: pod?.spec["nodeName"],
      podName: podOf("hello"),
      podUID: pod?.metadata.uid,
      podIP: pod?.status.podIP,
    });
    expect(Date.parse(vm?.status.startedAt ?? "")).toBeGreaterThan(0);
    const table = await kubectl.run(["get", "vm", "hello"]);
    expect(table).toMatch(/NAME\s+PHASE\s+READY/);
    expect(table).toMatch(/hello\s+Running\s+True/);
  });

  it("gives every condition, each about the present generation", async () => {
    const vm = await kubectl.get("vm", "hello");
    const conditions = vm?.status.conditions ?? [];
    expect(Object.fromEntries(conditions.map(({ type, status }) => [type, status]))).toEqual({
      Ready: "True",
      Reconciling: "False",
      Stalled: "False",
      Running: "True",
      Paused: "False",
      Migratable: "True",
      Migrating: "False",
      RestartRequired: "False",
    });
    for (const condition of conditions) expect(condition.observedGeneration).toBe(1);
  });

  it("attaches to the console, sees what the guest said before, and talks to it", async () => {
    await using session = await openConsole(kubectl, "hello");
    session.write("echo marco polo\r");
    await session.expect(/^marco polo/m);
  });

  it("serves several consoles at once", async () => {
    await using first = await openConsole(kubectl, "hello");
    await using second = kubectl.interactive(["exec", "-i", podOf("hello"), "--", "console", "--read-only"]);
    await second.expect(TEST_GUEST_READY);
    first.write("echo seen by both\r");
    await Promise.all([first.expect(/seen by both/), second.expect(/seen by both/)]);
  });

  it("logs JSON lines with the reason for each state change", async () => {
    const lines = (await kubectl.run(["logs", podOf("hello")])).trim().split("\n");
    const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(records).toContainEqual(
      expect.objectContaining({
        name: "hello",
        namespace: kubectl.namespace,
        state: "Running",
        reason: expect.any(String),
      }),
    );
  });

  it("runs in a pod without any privilege", async () => {
    const pod = await kubectl.get("pod", podOf("hello"));
    const spec = pod?.spec as {
      automountServiceAccountToken: boolean;
      hostPID?: boolean;
      containers: { securityContext: object; resources: { requests: Record<string, string> } }[];
    };
    expect(spec.automountServiceAccountToken).toBe(false);
    expect(spec.hostPID).toBeUndefined();
    expect(spec.containers).toHaveLength(1);
    expect(spec.containers[0]?.securityContext).toMatchObject({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    // The namespace enforces Pod Security `restricted`, so the API server has judged it as well.
    const namespace = await kubectl.get("namespace", kubectl.namespace);
    expect(namespace?.metadata.labels).toMatchObject({ "pod-security.kubernetes.io/enforce": "restricted" });
  });

  it("tells what happened in events", async () => {
    const reasons = (await kubectl.events("hello")).map((event) => event.reason);
    expect(reasons).toEqual(expect.arrayContaining(["PodCreated", "Running"]));
  });

  it("explains its fields", async () => {
    const text = await kubectl.run(["explain", "vm.spec.disks"]);
    expect(text).toMatch(/KIND:\s+VirtualMachine/);
    expect(text).toMatch(/image\s+<Object>/);
  });

  it("pauses and goes on", async () => {
    await kubectl.run(["patch", "vm", "hello", "--type=merge", "-p", '{"spec":{"paused":true}}']);
    await kubectl.waitFor("vm", "hello", "condition=Paused");
    await using session = kubectl.interactive(["exec", "-i", podOf("hello"), "--", "console", "--no-history"]);
    session.write("echo after the pause\r");
    await kubectl.run(["patch", "vm", "hello", "--type=merge", "-p", '{"spec":{"paused":false}}']);
    await kubectl.vmCondition("hello", "Paused", "False");
    await session.expect(/after the pause/);
  });

  it("leaves nothing behind when it is deleted", async () => {
    await cluster.deleteVm(kubectl, "hello");
    expect(await kubectl.run(["get", "pods,secrets", "-o", "name"])).toBe("");
  });
});
