import { describe, expect, it } from "@jest/globals";
import type { VirtualMachineStatus } from "../../../../crds/src/status.ts";
import type { VirtualMachineSpec } from "../../../../crds/src/virtualmachine.ts";
import type { Pod } from "../../runtime/wire.ts";
import { decide } from "./decide.ts";
import { annotations } from "./names.ts";
import type { Observation } from "./observation.ts";
import type { StoredVirtualMachine } from "./observe.ts";
import type { Action, Decision } from "./plan.ts";
import {
  at,
  container,
  endedPod,
  lastWord,
  launcherSays,
  lostPod,
  machine,
  NOW_MS,
  networkInterface,
  node,
  observation,
  POD_UID,
  podOf,
  rejectedPod,
  settings,
} from "./testing/fixtures.ts";

const eventsOf = (decision: Decision) =>
  decision.actions.flatMap((action) => (action.kind === "write-status" ? action.events : []));
const kinds = (decision: Decision) => decision.actions.map((action) => action.kind);
const find = <K extends Action["kind"]>(decision: Decision, kind: K) =>
  decision.actions.find((action): action is Extract<Action, { kind: K }> => action.kind === kind);
const statusOf = (decision: Decision, vm?: StoredVirtualMachine): VirtualMachineStatus =>
  find(decision, "write-status")?.status ?? vm?.status ?? {};
const condition = (status: VirtualMachineStatus, type: string) => status.conditions?.find((c) => c.type === type);
const summary = (status: VirtualMachineStatus) => ({
  phase: status.phase,
  ready: condition(status, "Ready")?.status,
  reason: condition(status, "Ready")?.reason,
  running: condition(status, "Running")?.status,
  reconciling: condition(status, "Reconciling")?.status,
  stalled: condition(status, "Stalled")?.status,
});
const now = (o: Observation, offsetSeconds = 0) => decide(o, settings, NOW_MS + offsetSeconds * 1000);
const edit = (pod: Pod, change: (copy: Pod) => void): Pod => {
  const copy = structuredClone(pod);
  change(copy);
  return copy;
};
const terminating = (pod: Pod) =>
  edit(pod, (copy) => {
    if (copy.metadata) copy.metadata.deletionTimestamp = at(60);
  });
/** The machine after it was seen running. */
const ran = (changes: Partial<VirtualMachineSpec> = {}, status: Partial<VirtualMachineStatus> = {}) => {
  const vm = machine(changes);
  const pod = podOf(machine(), "running");
  const seen = statusOf(now(observation(machine(), { pod, launcher: launcherSays(pod, {}) })));
  vm.status = { ...seen, ...status };
  return vm;
};
/** Lets the status of one pass be what the next one starts from. */
const following = (vm: StoredVirtualMachine, decision: Decision): StoredVirtualMachine => ({
  ...vm,
  status: statusOf(decision, vm),
});

describe("a machine that shall run and has no pod", () => {
  it("is started at once", () => {
    const decision = now(observation(machine()));
    expect(decision.actions).toEqual([{ kind: "start", restarts: 0, claims: {} }]);
  });

  it("is not started while it is being deleted", () => {
    const vm = machine();
    vm.metadata.deletionTimestamp = at(-1);
    const decision = now(observation(vm));
    expect(kinds(decision)).toEqual(["write-status"]);
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Terminating", reason: "Deleting" });
  });

  it("says what is wrong, and starts nothing, where the spec cannot be carried out", () => {
    const userData = "x".repeat(800 * 1024);
    const decision = now(observation(machine({ disks: [{ name: "seed", readOnly: true, cloudInit: { userData } }] })));
    expect(kinds(decision)).toEqual(["write-status"]);
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Failed", reason: "SpecInvalid", stalled: "True" });
    expect(condition(statusOf(decision), "Ready")?.message).toMatch(/80\d KiB of inline cloudInit data/);
  });

  it.each([
    ["NameConflict", "Failed", "True"],
    ["QuotaExceeded", "Failed", "True"],
    ["PodForbidden", "Failed", "True"],
    ["PodInvalid", "Failed", "True"],
    ["ApiError", "Pending", "False"],
  ] as const)("waits after %s, longer each time, and tries at once when the spec changes", (reason, phase, stalled) => {
    const refusal = { reason, message: "why", generation: 3, count: 3, atMs: NOW_MS };
    const waiting = now(observation(machine(), { refusal }));
    expect(summary(statusOf(waiting))).toMatchObject({ phase, reason, stalled });
    expect(waiting.wakeAtMs).toBe(NOW_MS + 20_000);
    expect(kinds(now(observation(machine(), { refusal }), 20))).toEqual(["start"]);
    expect(kinds(now(observation(machine(), { refusal: { ...refusal, generation: 2 } })))).toEqual(["start"]);
  });
});

describe("a pod of the machine's name that is not its own", () => {
  const withOwner = (uid: string, kind: string) =>
    edit(podOf(machine(), "running"), (pod) => {
      if (pod.metadata?.ownerReferences?.[0]) Object.assign(pod.metadata.ownerReferences[0], { uid, kind });
    });

  it("is left alone and waited for when it is of a former machine of the name", () => {
    const decision = now(observation(machine(), { pod: withOwner("older", "VirtualMachine") }));
    expect(kinds(decision)).toEqual(["write-status"]);
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Pending", reconciling: "True", stalled: "False" });
  });

  it("is a name conflict when it is anything else's", () => {
    const decision = now(observation(machine(), { pod: withOwner("x", "ReplicaSet") }));
    expect(kinds(decision)).toEqual(["write-status"]);
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Failed", reason: "NameConflict" });
  });
});

describe("a pod that waits", () => {
  const unschedulable = (vm: StoredVirtualMachine) =>
    edit(podOf(vm, "unscheduled"), (pod) => {
      const message = "0/2 nodes are available: 2 Insufficient devices.typevisor.io/kvm.";
      const no = { type: "PodScheduled", status: "False", reason: "Unschedulable", message };
      pod.status = { ...pod.status, conditions: [no] };
    });
  const waiting = (reason: string, message = "") =>
    edit(podOf(machine(), "scheduled"), (pod) => {
      pod.status = { ...pod.status, containerStatuses: [container({ waiting: { reason, message } })] };
    });

  it("says to look for the device plugin where no node offers KVM", () => {
    const nodes = [{ ...node, kvmDevices: 0 }];
    const status = statusOf(now(observation(machine(), { pod: unschedulable(machine()), nodes })));
    expect(summary(status)).toMatchObject({ phase: "Pending", reason: "Unschedulable", reconciling: "True" });
    expect(condition(status, "Ready")?.message).toMatch(/devices\.typevisor\.io\/kvm.*typevisor-node.*\/dev\/kvm/);
  });

  it("says how much the largest node has where the memory fits none", () => {
    const vm = machine({ memory: { size: "1Ti" } });
    const status = statusOf(now(observation(vm, { pod: unschedulable(vm) })));
    expect(condition(status, "Ready")?.message).toMatch(/spec\.memory\.size.*8Gi/);
  });

  it("gives the scheduler's words otherwise", () => {
    const status = statusOf(now(observation(machine(), { pod: unschedulable(machine()) })));
    expect(condition(status, "Ready")?.message).toContain("0/2 nodes are available");
  });

  it.each([
    ["ErrImagePull", "ImagePullFailed", "False"],
    ["ImagePullBackOff", "ImagePullFailed", "False"],
    ["InvalidImageName", "ImagePullFailed", "True"],
    ["CreateContainerConfigError", "ContainerNotStarted", "False"],
    ["CreateContainerError", "ContainerNotStarted", "False"],
    ["ContainerCreating", "Scheduled", "False"],
  ])("on %s says %s", (containerReason, reason, stalled) => {
    const status = statusOf(now(observation(machine(), { pod: waiting(containerReason, "the words") })));
    expect(summary(status)).toMatchObject({ reason, stalled, ready: "False", running: "False" });
  });

  it("is made anew when the spec changes before the machine has run", () => {
    const pod = unschedulable(machine({ memory: { size: "1Ti" } }));
    const decision = now(observation(machine({ memory: { size: "1Gi" } }), { pod }));
    expect(find(decision, "delete-pod")).toMatchObject({ uid: POD_UID, force: false });
  });

  it("is deleted when the machine shall be off", () => {
    const vm = machine({ runStrategy: "Halted" });
    expect(kinds(now(observation(vm, { pod: podOf(vm, "unscheduled") })))[0]).toBe("delete-pod");
  });
});

describe("a pod whose launcher runs", () => {
  const pod = podOf(machine(), "running");
  const ready = edit(pod, (copy) => {
    Object.assign(copy.status?.conditions?.[0] ?? {}, { status: "True", lastTransitionTime: at(0) });
  });

  it("has its launcher asked at once, and is starting until that answers", () => {
    const decision = now(observation(machine(), { pod }), -45);
    expect(find(decision, "ask-launcher")).toMatchObject({ podUID: POD_UID, ip: "10.0.0.7" });
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Starting", ready: "False", reason: "Starting" });
  });

  it("is running the moment the launcher says so, whatever the readiness probe says", () => {
    const status = statusOf(now(observation(machine(), { pod, launcher: launcherSays(pod, {}) })));
    expect(summary(status)).toEqual({
      phase: "Running",
      ready: "True",
      reason: "Running",
      running: "True",
      reconciling: "False",
      stalled: "False",
    });
    expect(status).toMatchObject({ node: "node-1", podName: "vm-web", podIP: "10.0.0.7", launcherVersion: "1.2.3" });
    expect(status.overhead).toEqual({ memory: "58Mi" });
    expect(status.startedAt).toBeDefined();
  });

  it("settles: what was written brings no further write and no question", () => {
    const launcher = launcherSays(ready, {});
    const first = now(observation(machine(), { pod: ready, launcher }));
    const second = now(observation(following(machine(), first), { pod: ready, launcher }), 30);
    expect(second.actions).toEqual([]);
  });

  it("is asked again when its readiness changes", () => {
    expect(kinds(now(observation(ran(), { pod: ready, launcher: launcherSays(pod, {}) })))).toContain("ask-launcher");
  });

  it.each([
    ["that was said to run and is not ready, as when its guest panicked before the first probe", pod, {}],
    ["that was said to have panicked and is ready", ready, { guestPanicked: true }],
    ["that was said to be paused and is ready", ready, { state: "Paused" as const }],
  ])("%s is asked again after a while", (_, seen, said) => {
    const launcher = { ...launcherSays(seen, said), answeredAtMs: Date.parse(at(0)) + 1_000 };
    const early = now(observation(ran(), { pod: seen, launcher }), 2);
    expect(kinds(early)).not.toContain("ask-launcher");
    expect(early.wakeAtMs).toBeLessThanOrEqual(NOW_MS + 60_000);
    const late = now(observation(ran(), { pod: seen, launcher }), 60);
    expect(find(late, "ask-launcher")).toMatchObject({ podUID: POD_UID });
  });

  it("is asked ever more rarely when readiness and answer go on to differ, as where probes do not get through", () => {
    const waits = [2, 10, 20, 200, 2_000].map((seconds) => {
      const launcher = { ...launcherSays(pod, {}), answeredAtMs: Date.parse(at(-50)) + seconds * 1_000 };
      const decision = now(observation(ran(), { pod, launcher }), -50);
      return ((decision.wakeAtMs ?? 0) - launcher.answeredAtMs) / 1_000;
    });
    expect(waits).toEqual([5, 10, 20, 200, 300]);
  });

  it("is paused and resumed as the spec asks, and says so on the way", () => {
    const pausing = now(observation(ran({ paused: true }), { pod, launcher: launcherSays(pod, {}) }));
    expect(kinds(pausing)).toEqual(["write-status", "pause"]);
    expect(summary(statusOf(pausing))).toMatchObject({ reason: "Pausing", running: "True", reconciling: "True" });
    const paused = now(observation(ran({ paused: true }), { pod, launcher: launcherSays(pod, { state: "Paused" }) }));
    expect(summary(statusOf(paused))).toMatchObject({ phase: "Paused", ready: "True", reason: "Paused" });
    const resuming = now(observation(ran(), { pod, launcher: launcherSays(pod, { state: "Paused" }) }));
    expect(kinds(resuming)).toEqual(["write-status", "resume"]);
  });

  it("keeps what was known while a new operator has not heard from the launcher yet", () => {
    const vm = ran();
    const decision = now(observation(vm, { pod }));
    expect(kinds(decision)).toEqual(["ask-launcher"]);
  });

  it("is not called unreachable within the first seconds, and is after them", () => {
    const error = "connect ECONNREFUSED";
    const askedSinceMs = Date.parse(at(-50));
    const launcher = { podUID: POD_UID, askedSinceMs, status: undefined, answeredAtMs: 0, error, readiness: "" };
    const early = now(observation(machine(), { pod, launcher }), -45);
    expect(summary(statusOf(early))).toMatchObject({ reason: "Starting" });
    expect(early.wakeAtMs).toBe(NOW_MS - 40_000);
    const late = statusOf(now(observation(machine(), { pod, launcher })));
    expect(summary(late)).toMatchObject({ reason: "LauncherUnreachable", reconciling: "True" });
    expect(condition(late, "Ready")?.message).toMatch(/ECONNREFUSED.*NetworkPolicies/);
  });

  it("needs a restart, and is not restarted, when spec or launcher image change", () => {
    const vm = ran({ memory: { size: "2Gi" } });
    const decision = decide(
      observation(vm, { pod, launcher: launcherSays(pod, {}) }),
      { ...settings, launcherImage: "registry.example/launcher:2" },
      NOW_MS,
    );
    expect(kinds(decision)).toEqual(["write-status"]);
    const required = condition(statusOf(decision), "RestartRequired");
    expect(required).toMatchObject({ status: "True", reason: "SpecChanged" });
    expect(required?.message).toContain("launcher image, spec.memory.size");
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Running", ready: "True" });
  });

  it("goes on in an outdated launcher after an upgrade of the operator, and says so without an event", () => {
    const newer = { ...settings, launcherImage: "registry.example/launcher:2" };
    const outdated = observation(ran(), { pod, launcher: launcherSays(pod, { launcherVersion: "0.9.0" }) });
    const decision = decide(outdated, newer, NOW_MS);
    expect(kinds(decision)).toEqual(["write-status"]);
    expect(find(decision, "write-status")?.events).toEqual([]);
    expect(condition(statusOf(decision), "RestartRequired")).toMatchObject({
      status: "True",
      reason: "LauncherOutdated",
      message: expect.stringContaining("(version 0.9.0)"),
    });
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Running", ready: "True", reconciling: "False" });
    const changed = { ...ran({ memory: { size: "2Gi" } }), status: statusOf(decision) };
    const later = decide(observation(changed, { pod, launcher: launcherSays(pod, {}) }), newer, NOW_MS);
    expect(find(later, "write-status")?.events).toMatchObject([{ reason: "SpecChanged" }]);
  });

  it("needs no restart for what acts on a running machine", () => {
    const vm = ran({ runStrategy: "RerunOnFailure", paused: true });
    const status = statusOf(now(observation(vm, { pod, launcher: launcherSays(pod, {}) })));
    expect(condition(status, "RestartRequired")?.status).toBe("False");
  });

  it("needs no restart for an interface that is spelt out as it is by default, or for its cable", () => {
    const interfaces = [{ name: "default", masquerade: {}, state: "Down" as const }];
    const decision = now(observation(machine({ interfaces }), { pod, launcher: launcherSays(pod, {}) }));
    expect(condition(statusOf(decision), "RestartRequired")?.status).toBe("False");
    const others = [{ name: "default", podIP: {}, state: "Up" as const }];
    const required = now(observation(machine({ interfaces: others }), { pod, launcher: launcherSays(pod, {}) }));
    expect(condition(statusOf(required), "RestartRequired")?.message).toMatch(/spec\.interfaces\[default\]/);
  });

  it("says of interfaces that are to come or to go that a restart alone does it, by their names", () => {
    const another = (name: string) => ({ name, podIP: {}, state: "Up" as const });
    const own = { name: "default", masquerade: {}, state: "Up" as const };
    const messageOf = (...interfaces: (typeof own | ReturnType<typeof another>)[]) =>
      condition(
        statusOf(now(observation(machine({ interfaces }), { pod, launcher: launcherSays(pod, {}) }))),
        "RestartRequired",
      )?.message;
    expect(messageOf(own, another("storage"))).toMatch(
      /: interface storage comes or goes with a restart alone, since only multus interfaces come to a running machine, and go if they came so$/,
    );
    expect(messageOf(another("storage"), another("backup"))).toMatch(
      /: interfaces backup, default, storage come or go/,
    );
    // Another order, or another network, is no other interface.
    expect(messageOf({ ...another("default") })).not.toMatch(/comes or goes/);
  });

  it("has its labels follow the machine's and the template's, without a restart, and keeps those of others", () => {
    const labelled = edit(pod, (copy) => Object.assign(copy.metadata?.labels ?? {}, { mesh: "on" }));
    const vm = machine({ template: { metadata: { labels: { tier: "db" } } } });
    vm.metadata.labels = { team: "a" };
    const decision = now(observation(vm, { pod: labelled, launcher: launcherSays(pod, {}) }));
    const change = find(decision, "label-pod");
    expect(change).toMatchObject({ podUID: POD_UID, labels: { app: null, team: "a", tier: "db" } });
    expect(condition(statusOf(decision), "RestartRequired")?.status).toBe("False");

    const changed = edit(labelled, (copy) => {
      const labels = { ...copy.metadata?.labels, ...change?.labels } as Record<string, string>;
      delete labels["app"];
      copy.metadata = {
        ...copy.metadata,
        labels,
        annotations: { ...copy.metadata?.annotations, ...change?.annotations },
      };
    });
    expect(changed.metadata?.labels).toMatchObject({ mesh: "on", team: "a" });
    const changeTo = (labels: Record<string, string>) => {
      vm.metadata.labels = labels;
      return find(now(observation(vm, { pod: changed, launcher: launcherSays(pod, {}) })), "label-pod");
    };
    expect(changeTo({ team: "a" })).toBeUndefined();
    expect(changeTo({ team: "b", "typevisor.io/vm": "forged" })?.labels).toEqual({ team: "b" });
    expect(changeTo({})?.labels).toEqual({ team: null });
  });

  it("has the cable of its interfaces plugged as the spec says, where the machine has them", () => {
    const interfaces = [
      { name: "default", masquerade: {}, state: "Down" as const },
      { name: "new", multus: { networkName: "a" }, state: "Down" as const },
    ];
    const links = (link: "up" | "down") => {
      const launcher = launcherSays(pod, { interfaces: [networkInterface("default", { link })] });
      const decision = now(observation(machine({ interfaces }), { pod, launcher }));
      return decision.actions.filter(({ kind }) => kind === "set-link");
    };
    const where = { podUID: POD_UID, ip: "10.0.0.7" };
    expect(links("up")).toEqual([{ kind: "set-link", ...where, interfaceName: "default", state: "down" }]);
    expect(links("down")).toEqual([]);
  });

  it("is stopped gracefully when the machine shall be off", () => {
    const decision = now(observation(ran({ runStrategy: "Halted" }), { pod, launcher: launcherSays(pod, {}) }));
    expect(kinds(decision)).toEqual(["delete-pod", "write-status"]);
    expect(find(decision, "delete-pod")).toMatchObject({ uid: POD_UID, force: false });
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Stopping", running: "True" });
  });

  it.each([
    ["is due", { [annotations.certificateRenewAt]: at(-1) }],
    ["was signed by another authority", { [annotations.trust]: "older" }],
    ["has an unreadable date", { [annotations.certificateRenewAt]: "soon" }],
  ])("gets a new certificate when its own %s", (_, marks) => {
    const old = edit(pod, (copy) => Object.assign(copy.metadata?.annotations ?? {}, marks));
    const decision = now(observation(ran(), { pod: old, launcher: launcherSays(pod, {}) }));
    expect(find(decision, "renew-certificate")).toBeDefined();
  });

  it.each([-600, 0, 600])("forgets earlier crashes once it has run for ten minutes, its clock %i s ahead", (ahead) => {
    const vm = ran({}, { consecutiveCrashes: 3 });
    const launcher = launcherSays(ready, { startedAt: at(ahead) });
    expect(now(observation(vm, { pod: ready, launcher })).wakeAtMs).toBe(NOW_MS + 600_000);
    expect(statusOf(now(observation(vm, { pod: ready, launcher }), 600)).consecutiveCrashes).toBe(0);
  });
});

describe("a guest with a readinessProbe", () => {
  const times = {
    initialDelaySeconds: 0,
    periodSeconds: 5,
    timeoutSeconds: 1,
    successThreshold: 1,
    failureThreshold: 3,
  };
  const vm = machine({ readinessProbe: { ...times, tcpSocket: { port: 80 } } });
  const pod = podOf(vm, "running");
  const ready = edit(pod, (copy) => {
    if (copy.status) copy.status.conditions = [{ type: "Ready", status: "True", lastTransitionTime: at(-10) }];
  });

  it("runs, and is not ready before the probe succeeds", () => {
    const status = statusOf(now(observation(vm, { pod, launcher: launcherSays(pod, {}) })));
    const expected = {
      phase: "Running",
      running: "True",
      ready: "False",
      reason: "GuestNotReady",
      reconciling: "True",
    };
    expect(summary(status)).toMatchObject({ ...expected, stalled: "False" });
    expect(condition(status, "Ready")?.message).toMatch(/tcpSocket of port 80/);
    const later = statusOf(now(observation(vm, { pod: ready, launcher: launcherSays(ready, {}) })));
    expect(summary(later)).toMatchObject({ phase: "Running", ready: "True", reason: "Running", running: "True" });
  });

  it("stays not ready where a new operator has not heard of its launcher yet", () => {
    const before = statusOf(now(observation(vm, { pod, launcher: launcherSays(pod, {}) })));
    const decision = now(observation({ ...vm, status: before }, { pod }));
    expect(summary(statusOf(decision, { ...vm, status: before }))).toEqual(summary(before));
  });

  it("is judged by the probe of its pod, not by one that the spec has since", () => {
    const plain = podOf(machine(), "running");
    const status = statusOf(now(observation(vm, { pod: plain, launcher: launcherSays(plain, {}) })));
    expect(summary(status)).toMatchObject({ ready: "True", reason: "Running" });
    expect(condition(status, "RestartRequired")?.message).toMatch(/spec\.readinessProbe/);
  });

  it("is paused, not unready, when it shall be paused", () => {
    const paused = { ...vm, spec: { ...vm.spec, paused: true } };
    const status = statusOf(now(observation(paused, { pod, launcher: launcherSays(pod, { state: "Paused" }) })));
    expect(summary(status)).toMatchObject({ phase: "Paused", ready: "True", reason: "Paused" });
  });
});

describe("a guest that fails its livenessProbe", () => {
  const times = {
    initialDelaySeconds: 0,
    periodSeconds: 5,
    timeoutSeconds: 1,
    successThreshold: 1,
    failureThreshold: 3,
  };
  const livenessProbe = { ...times, tcpSocket: { port: 22 } };
  const stopped = (changes: Partial<VirtualMachineSpec>, reason = "StopTimeout") => {
    const vm = machine({ livenessProbe, ...changes });
    return { vm, pod: endedPod(vm, { exitCode: 0, message: lastWord(reason), endedSecondsAgo: 60 }) };
  };

  it.each(["Always", "RerunOnFailure"] as const)("has crashed, and %s starts it again", (runStrategy) => {
    const { vm, pod } = stopped({ runStrategy });
    const decision = now(observation(vm, { pod }));
    expect(statusOf(decision)).toMatchObject({
      consecutiveCrashes: 1,
      lastTermination: { reason: "LivenessProbeFailed" },
    });
    expect(kinds(now(observation(following(vm, decision), { pod }), 10))).toContain("delete-pod");
  });

  it("has crashed for good where it runs once", () => {
    const { vm, pod } = stopped({ runStrategy: "Once" }, "Stopped");
    expect(summary(statusOf(now(observation(vm, { pod }))))).toMatchObject({ phase: "Failed", reason: "Crashed" });
  });

  it("is told apart from one that powers off, that is deleted, and that is moved away", () => {
    const reasonOf = (vm: StoredVirtualMachine, pod: Pod) =>
      statusOf(now(observation(vm, { pod }))).lastTermination?.reason;
    const off = stopped({}, "GuestPowerOff");
    expect(reasonOf(off.vm, off.pod)).toBe("GuestPowerOff");
    const { vm, pod } = stopped({});
    expect(reasonOf(vm, terminating(pod))).toBe("PodDeleted");
    const halted = stopped({ runStrategy: "Halted" });
    expect(reasonOf(halted.vm, terminating(halted.pod))).toBe("StopTimeout");
    const evicted = edit(pod, (copy) => Object.assign(copy.status ?? {}, { reason: "Evicted" }));
    expect(reasonOf(vm, evicted)).toBe("Evicted");
    const plain = machine();
    expect(reasonOf(plain, endedPod(plain, { exitCode: 0, message: lastWord("StopTimeout") }))).toBe("StopTimeout");
  });
});

describe("a machine that ended", () => {
  const end = (vm: StoredVirtualMachine, reason: string, exitCode: number, endedSecondsAgo = 1) =>
    endedPod(vm, { exitCode, message: lastWord(reason), endedSecondsAgo });

  it.each([
    ["Always", "GuestPowerOff", 0, "restart"],
    ["Always", "GuestTripleFault", 80, "wait"],
    ["RerunOnFailure", "GuestPowerOff", 0, "Stopped"],
    ["RerunOnFailure", "Stopped", 0, "Stopped"],
    ["RerunOnFailure", "GuestTripleFault", 80, "wait"],
    ["Once", "GuestPowerOff", 0, "Stopped"],
    ["Once", "GuestTripleFault", 80, "Failed"],
    ["Once", "AgentUnavailable", 70, "a moment later"],
  ] as const)("with %s after %s (%i): %s", (runStrategy, reason, exitCode, outcome) => {
    const vm = ran({ runStrategy });
    const decision = now(observation(vm, { pod: end(vm, reason, exitCode) }));
    const status = statusOf(decision);
    expect(status.lastTermination).toMatchObject({ reason, exitCode, podUID: POD_UID });
    switch (outcome) {
      case "restart":
        // What is to be known of the end is written before the pod, which is the evidence, is deleted.
        expect(kinds(decision)).toEqual(["write-status", "delete-pod"]);
        break;
      case "wait":
        expect(kinds(decision)).toEqual(["write-status"]);
        expect(status).toMatchObject({ phase: "CrashBackOff", consecutiveCrashes: 1 });
        expect(decision.wakeAtMs).toBe(NOW_MS + 10_000);
        break;
      case "a moment later":
        expect(status).toMatchObject({ phase: "Pending", failedStarts: 1 });
        expect(decision.wakeAtMs).toBe(NOW_MS + 1_000);
        break;
      default:
        expect(kinds(decision)).toEqual(["write-status"]);
        expect(status.phase).toBe(outcome);
        // And it stays so when the pod is gone.
        expect(kinds(now(observation(following(vm, decision))))).not.toContain("start");
    }
  });

  it("waits twice as long after each crash in a row, five minutes at most", () => {
    const delays = [1, 2, 3, 4, 5, 6, 7].map((crash) => {
      const vm = ran({}, { consecutiveCrashes: crash - 1 });
      const decision = now(observation(vm, { pod: end(vm, "ResetStorm", 82, 0) }));
      return ((decision.wakeAtMs ?? 0) - NOW_MS) / 1000;
    });
    expect(delays).toEqual([10, 20, 40, 80, 160, 300, 300]);
  });

  it.each([-600, 0, 600])("waits by the operator's clock where the node's is %i s ahead", (ahead) => {
    const vm = ran();
    const pod = end(vm, "ResetStorm", 82, -ahead);
    const first = now(observation(vm, { pod }));
    expect(first.wakeAtMs).toBe(NOW_MS + 10_000);
    const seen = following(vm, first);
    expect(kinds(now(observation(seen, { pod }), 9))).not.toContain("delete-pod");
    expect(kinds(now(observation(seen, { pod }), 10))).toContain("delete-pod");
    // Of an operator whose clock was ahead: this one waits no longer than it would by its own.
    const late = { ...seen, status: { ...seen.status, nextStartTime: at(600) } };
    expect(now(observation(late, { pod })).wakeAtMs).toBe(NOW_MS + 10_000);
  });

  it("counts a crash once, however often it is looked at", () => {
    const vm = ran();
    const pod = end(vm, "ResetStorm", 82);
    const first = now(observation(vm, { pod }));
    const second = now(observation(following(vm, first), { pod }), 2);
    expect(statusOf(second, following(vm, first)).consecutiveCrashes).toBe(1);
    const third = now(observation(following(vm, first), { pod }), 10);
    expect(find(third, "delete-pod")).toMatchObject({ uid: POD_UID });
  });

  it("begins anew to count after a run of ten minutes", () => {
    const vm = ran({}, { consecutiveCrashes: 5, startedAt: at(-700) });
    const decision = now(observation(vm, { pod: end(vm, "GuestTripleFault", 80) }));
    expect(statusOf(decision).consecutiveCrashes).toBe(1);
  });

  it("is started again at once when the spec was changed meanwhile", () => {
    const vm = ran({ cpu: { cores: 4, model: "Host" } });
    const decision = now(observation(vm, { pod: end(machine(), "BootImageInvalid", 65) }));
    expect(kinds(decision)).toEqual(["write-status", "delete-pod"]);
  });

  it("is stalled as well as tried again where only a change by someone helps", () => {
    const vm = ran();
    const decision = now(observation(vm, { pod: end(vm, "BootImageInvalid", 65) }));
    expect(summary(statusOf(decision))).toMatchObject({ reason: "BootImageInvalid", stalled: "True", phase: "Failed" });
    expect(decision.wakeAtMs).toBeDefined();
  });

  it("counts as restarted in the pod that comes next", () => {
    const vm = ran({}, { restarts: 4 });
    const ended = end(vm, "GuestPowerOff", 0);
    const pod = edit(ended, (copy) => Object.assign(copy.metadata?.annotations ?? {}, { [annotations.restarts]: "4" }));
    const gone = following(vm, now(observation(vm, { pod })));
    expect(now(observation(gone)).actions).toEqual([{ kind: "start", restarts: 5, claims: {} }]);
  });

  it("is removed and forgotten when it shall be off, so that it can be started again", () => {
    const vm = ran({ runStrategy: "Once" });
    const completed = following(vm, now(observation(vm, { pod: end(vm, "GuestPowerOff", 0) })));
    const halted = { ...completed, spec: { ...completed.spec, runStrategy: "Halted" as const } };
    const removing = now(observation(halted, { pod: end(vm, "GuestPowerOff", 0) }));
    expect(kinds(removing)).toEqual(["write-status", "delete-pod"]);
    const off = following(halted, now(observation(following(halted, removing))));
    expect(summary(off.status ?? {})).toMatchObject({ phase: "Stopped", reason: "Halted", ready: "True" });
    const again = { ...off, spec: { ...off.spec, runStrategy: "Once" as const } };
    expect(kinds(now(observation(again)))).toEqual(["start"]);
  });

  it.each([
    ["OOMKilled", 137, undefined, "OutOfMemory"],
    ["Error", 137, undefined, "LauncherKilled"],
    ["Error", 139, "segmentation fault", "LauncherError"],
    ["ContainerStatusUnknown", 137, undefined, "NodeLost"],
    ["Error", 80, '{"version":1,"reason":"NoSuchReason","message":"x"}', "LauncherError"],
  ])("without a last word, as %s with exit code %i, is %s", (reason, exitCode, message, expected) => {
    const vm = ran();
    const pod = endedPod(vm, { reason, exitCode, ...(message === undefined ? {} : { message }) });
    expect(statusOf(now(observation(vm, { pod }))).lastTermination?.reason).toBe(expected);
  });
});

describe("a pod whose node lost power", () => {
  it("is a disruption of the run that was seen, without a time that nobody knows", () => {
    const vm = ran();
    const { lastTermination } = statusOf(now(observation(vm, { pod: lostPod(vm) })));
    expect(lastTermination).toMatchObject({ reason: "NodeLost", startedAt: vm.status?.startedAt });
    expect(lastTermination).not.toHaveProperty("finishedAt");
  });

  it("is made anew by the rules of one that never ran where no run was seen", () => {
    const vm = machine();
    const decision = now(observation(vm, { pod: lostPod(vm) }));
    expect(statusOf(decision)).toMatchObject({ failedStarts: 1, lastTermination: { reason: "NodeLost" } });
    expect(statusOf(decision).lastTermination).not.toHaveProperty("startedAt");
    expect(now(observation(following(vm, decision))).actions).toMatchObject([{ kind: "start" }]);
  });
});

describe("a pod that failed before the machine started", () => {
  it.each(["UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "NodeAffinity"])(
    "by %s is made anew after a while, and is no crash, even for a machine that runs once",
    (reason) => {
      const vm = machine({ runStrategy: "Once" });
      vm.status = { consecutiveCrashes: 2, failedStarts: 2 };
      const decision = now(observation(vm, { pod: rejectedPod(vm, reason) }), -5);
      expect(statusOf(decision)).toMatchObject({ failedStarts: 3, consecutiveCrashes: 2 });
      expect(summary(statusOf(decision))).toMatchObject({ reason: "StartBackOff", reconciling: "True" });
      expect(decision.wakeAtMs).toBe(NOW_MS - 5_000 + 4_000);
      const gone = following(vm, decision);
      expect(now(observation(gone)).actions).toEqual([{ kind: "start", restarts: 0, claims: {} }]);
    },
  );

  it("by eviction is not a crash either", () => {
    const vm = machine();
    const decision = now(observation(vm, { pod: rejectedPod(vm, "Evicted") }));
    expect(statusOf(decision)).toMatchObject({ failedStarts: 1, lastTermination: { reason: "Evicted" } });
  });
});

describe("a guest whose kernel panicked", () => {
  it("is not ready, is told of in an event, and is left to its owner", () => {
    const vm = ran();
    const pod = podOf(vm, "running");
    const decision = now(observation(vm, { pod, launcher: launcherSays(pod, { guestPanicked: true }) }));
    expect(kinds(decision)).toEqual(["write-status"]);
    expect(summary(statusOf(decision))).toMatchObject({ reason: "GuestPanicked", running: "True" });
    expect(eventsOf(decision)).toContainEqual(expect.objectContaining({ type: "Warning", reason: "GuestPanicked" }));
  });
});

describe("a guest that reboots", () => {
  const vm = ran();
  const pod = podOf(vm, "running");
  const rebooted = (from: StoredVirtualMachine, reboots: number) =>
    now(observation(from, { pod, launcher: launcherSays(pod, { reboots }) }));

  it("is told of once, stays in its pod, and is counted", () => {
    const first = rebooted(vm, 2);
    expect(kinds(first)).toEqual(["write-status"]);
    expect(eventsOf(first).map(({ type, reason }) => [type, reason])).toEqual([["Normal", "GuestRebooted"]]);
    expect(statusOf(first)).toMatchObject({ reboots: 2, restarts: 0, phase: "Running" });
    expect(rebooted(following(vm, first), 2).actions).toEqual([]);
    const panicked = launcherSays(pod, { reboots: 2, guestPanicked: true });
    const later = now(observation(following(vm, first), { pod, launcher: panicked }));
    expect(eventsOf(later).map(({ reason }) => reason)).toEqual(["GuestPanicked"]);
  });

  it("again gets the same event, so that a storm of them is one with a count", () => {
    const [first, second] = [rebooted(vm, 1), rebooted(following(vm, rebooted(vm, 1)), 7)];
    expect(eventsOf(second)).toEqual(eventsOf(first));
    expect(statusOf(second).reboots).toBe(7);
  });

  it("is not counted on into the next pod", () => {
    const before = following(vm, rebooted(vm, 3));
    const next = edit(pod, (copy) => Object.assign(copy.metadata ?? {}, { uid: "another" }));
    const decision = now(observation(before, { pod: next, launcher: launcherSays(next, {}) }));
    expect(statusOf(decision).reboots).toBe(0);
    expect(eventsOf(decision).map(({ reason }) => reason)).not.toContain("GuestRebooted");
  });
});

describe("a pod that somebody took away", () => {
  it.each([
    ["Always", true],
    ["RerunOnFailure", true],
    ["Once", false],
  ] as const)("with %s is a restart: %s", (runStrategy, restarts) => {
    const vm = ran({ runStrategy });
    const running = podOf(vm, "running");
    const stopping = now(observation(vm, { pod: terminating(running), launcher: launcherSays(running, {}) }));
    expect(kinds(stopping)).toEqual(["write-status"]);
    expect(summary(statusOf(stopping))).toMatchObject({ phase: "Stopping", reason: "PodDeleted", running: "True" });
    const between = following(vm, stopping);
    const ended = terminating(endedPod(vm, { exitCode: 0, message: lastWord("Stopped") }));
    const recorded = now(observation(between, { pod: ended }));
    expect(kinds(recorded)).toEqual(["write-status"]);
    expect(statusOf(recorded).lastTermination?.reason).toBe("PodDeleted");
    expect(kinds(now(observation(following(between, recorded)))).includes("start")).toBe(restarts);
  });

  it("without a trace is noticed by what the status knew, and a machine that runs once does not run again", () => {
    const again = now(observation(ran()));
    expect(kinds(again)).toEqual(["write-status", "start"]);
    expect(again.actions).toContainEqual({ kind: "start", restarts: 1, claims: {} });
    expect(statusOf(again).lastTermination).toMatchObject({ reason: "PodDeleted", podUID: POD_UID });
    const once = now(observation(ran({ runStrategy: "Once" })));
    expect(kinds(once)).toEqual(["write-status"]);
    expect(statusOf(once).lastTermination).toMatchObject({ reason: "PodDeleted", podUID: POD_UID });
  });

  it("and that went before we looked still tells how it ended", () => {
    const vm = ran();
    const departed = endedPod(vm, { exitCode: 80, message: lastWord("GuestTripleFault", "a triple fault") });
    const decision = now(observation(vm, { departed }));
    expect(statusOf(decision).lastTermination).toMatchObject({ reason: "GuestTripleFault", message: "a triple fault" });
    const stranger = now(observation({ ...vm, status: { ...vm.status, podUID: "another" } }, { departed }));
    expect(statusOf(stranger).lastTermination).toMatchObject({ reason: "PodDeleted", podUID: "another" });
  });

  it.each(["Stopped", "StopTimeout"])("to halt the machine leaves the launcher's own word: %s", (reason) => {
    const vm = ran({ runStrategy: "Halted" });
    const ended = terminating(endedPod(vm, { exitCode: 0, message: lastWord(reason) }));
    expect(statusOf(now(observation(vm, { pod: ended }))).lastTermination).toMatchObject({ reason });
    expect(statusOf(now(observation(vm, { departed: ended }))).lastTermination).toMatchObject({ reason });
  });

  it("by the cluster is told apart from one deleted by hand", () => {
    const vm = ran();
    const evicted = edit(endedPod(vm, { exitCode: 0, message: lastWord("Stopped") }), (pod) => {
      Object.assign(pod.status ?? {}, { reason: "Evicted", message: "The node was low on resource: memory." });
    });
    const decision = now(observation(vm, { pod: evicted }));
    expect(statusOf(decision).lastTermination).toMatchObject({ reason: "Evicted" });
    expect(statusOf(decision).lastTermination?.message).toContain("low on resource");
    expect(kinds(decision)).toEqual(["write-status", "delete-pod"]);
  });

  it("during Halted ends off, even if the operator did not see it stop", () => {
    const decision = now(observation(ran({ runStrategy: "Halted" })));
    expect(kinds(decision)).toEqual(["write-status"]);
    expect(summary(statusOf(decision))).toMatchObject({ phase: "Stopped", reason: "Halted" });
  });
});

describe("a node that does not answer", () => {
  const silent = { ...node, ready: "Unknown" as const };

  it.each([
    ["silent", silent],
    ["gone", null],
  ])("is said to be lost when %s, and nothing is started or deleted", (_, lost) => {
    const vm = ran();
    const pod = podOf(vm, "running");
    for (const seen of [pod, terminating(pod)]) {
      const decision = now(observation(vm, { pod: seen, node: lost, launcher: launcherSays(pod, {}) }));
      expect(kinds(decision)).toEqual(["write-status"]);
      expect(summary(statusOf(decision))).toMatchObject({ phase: "Unknown", reason: "NodeLost", running: "Unknown" });
      expect(condition(statusOf(decision), "Ready")?.message).toContain("node.kubernetes.io/out-of-service");
    }
  });

  it("gives its pod up only once it is marked out of service and the pod is being deleted", () => {
    const vm = ran();
    const pod = podOf(vm, "running");
    const out = { ...silent, outOfService: true };
    expect(kinds(now(observation(vm, { pod, node: out })))).not.toContain("delete-pod");
    const decision = now(observation(vm, { pod: terminating(pod), node: out }));
    expect(find(decision, "delete-pod")).toMatchObject({ uid: POD_UID, force: true });
    expect(kinds(now(observation(vm, { pod: terminating(pod), node: { ...out, ready: "True" } })))).not.toContain(
      "delete-pod",
    );
  });
});

describe("events", () => {
  const events = (decision: Decision) => find(decision, "write-status")?.events.map((e) => [e.type, e.reason]);

  it("tell of transitions once", () => {
    const vm = machine();
    const pod = podOf(vm, "running");
    const running = now(observation(vm, { pod, launcher: launcherSays(pod, {}) }));
    expect(events(running)).toEqual([["Normal", "Running"]]);
    const crashed = now(observation(ran(), { pod: endedPod(vm, { exitCode: 80, message: lastWord("ResetStorm") }) }));
    expect(events(crashed)).toEqual([
      ["Warning", "ResetStorm"],
      ["Warning", "CrashBackOff"],
    ]);
    const changed = now(observation(ran({ memory: { size: "2Gi" } }), { pod, launcher: launcherSays(pod, {}) }));
    expect(events(changed)).toEqual([["Normal", "SpecChanged"]]);
  });
});

it("the first status has every condition, each about the generation it was made for", () => {
  const status = statusOf(now(observation(machine(), { pod: podOf(machine(), "unscheduled") })));
  expect(status.conditions?.map((c) => [c.type, c.observedGeneration])).toEqual(
    ["Ready", "Reconciling", "Stalled", "Running", "Paused", "Migratable", "Migrating", "RestartRequired"].map(
      (type) => [type, 3],
    ),
  );
  expect(status.observedGeneration).toBe(3);
});
