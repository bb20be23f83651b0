import { describe, expect, it } from "@jest/globals";
import type { Disk } from "../../../../crds/src/disk.ts";
import type { DiskStatus } from "../../../../launcher/api/control.ts";
import { parseHoldOptions } from "../../../../launcher/src/commands/hold-options.ts";
import { parseDiskConfig } from "../../../../launcher/src/config/machine-config.ts";
import type { Pod } from "../../runtime/wire.ts";
import { attachmentPod } from "./attachment-pod.ts";
import type { ClaimFacts, Claims } from "./claims.ts";
import { decide } from "./decide.ts";
import type { Observation } from "./observation.ts";
import type { StoredVirtualMachine } from "./observe.ts";
import type { Decision } from "./plan.ts";
import {
  at,
  claim,
  launcherSays,
  machine,
  NOW_MS,
  node,
  observation,
  POD_UID,
  podOf,
  settings,
  spec,
  VM_UID,
} from "./testing/fixtures.ts";

const HOLDER_UID = "22222222-0000-4000-8000-000000000002";
const NAME = "disk-web-0f9a6c1e-data";
const SECOND_NAME = "disk2-web-0f9a6c1e-data";
const root = spec.disks[0] as Disk;
const data: Disk = { name: "data", readOnly: false, persistentVolumeClaim: { claimName: "c" } };
const claims: Claims = { c: claim("c") };
const seen = (state: DiskStatus["state"] = "Attached", name = "data"): DiskStatus => ({
  name,
  sizeBytes: 10 * 2 ** 30,
  readOnly: false,
  ...(state && { state }),
});
const rootSeen = seen("Attached", "root");

/** A machine that was started with its root disk alone, and has these disks in its spec now. */
const now = (...disks: Disk[]) => machine({ disks: [root, ...disks] });
const running = (): Pod => podOf(machine(), "running");

function attachment(changes: { disk?: Disk; phase?: string; meta?: object; name?: string; status?: object } = {}): Pod {
  const { disk = data, phase = "Running", meta = {}, name = NAME, status = {} } = changes;
  const pod = attachmentPod(now(disk), { settings, name, disk, claims, launcher: running() });
  return {
    ...pod,
    metadata: { ...pod.metadata, uid: HOLDER_UID, creationTimestamp: at(-5), ...meta },
    status: { phase, ...status },
  };
}

function look(vm: StoredVirtualMachine, disks: readonly DiskStatus[], parts: Partial<Observation> = {}): Decision {
  const pod = parts.pod ?? running();
  const launcher = launcherSays(pod, { disks: [rootSeen, ...disks] });
  return decide(observation(vm, { pod, launcher, claims, ...parts }), settings, NOW_MS);
}

/** What is done about disks and their pods. */
const deeds = ({ actions }: Decision) =>
  actions.flatMap((action) => {
    switch (action.kind) {
      case "create-attachment":
      case "delete-attachment":
        return [`${action.kind} ${action.name}`];
      case "attach-disk":
        return [`attach-disk ${action.disk.name}`];
      case "detach-disk":
        return [`detach-disk ${action.disk}`];
      case "start":
        return ["start"];
      default:
        return [];
    }
  });
const statusOf = ({ actions }: Decision) =>
  actions.flatMap((action) => (action.kind === "write-status" ? [action.status] : []))[0];
const conditionOf = (decision: Decision, type: string) =>
  statusOf(decision)?.conditions?.find((each) => each.type === type);
const volumeOf = (decision: Decision, name = "data") => statusOf(decision)?.volumes?.find((each) => each.name === name);

describe("a disk that a running machine's spec has gained", () => {
  it("gets a pod for its volume, then is given to the launcher, and is there", () => {
    expect(deeds(look(now(data), []))).toEqual([`create-attachment ${NAME}`]);
    expect(deeds(look(now(data), [], { attachments: [attachment({ phase: "Pending" })] }))).toEqual([]);
    const given = look(now(data), [], { attachments: [attachment()] });
    expect(deeds(given)).toEqual(["attach-disk data"]);
    const done = look(now(data), [seen()], { attachments: [attachment()] });
    expect(deeds(done)).toEqual([]);
    expect(volumeOf(done)).toMatchObject({ state: "Attached", claimName: "c", size: "10Gi" });
    expect(conditionOf(done, "Reconciling")?.status).toBe("False");
  });

  it("is told to the launcher as the launcher takes it, from that very pod", () => {
    const limits = { requestsPerSecond: 100, bytesPerSecond: "1Mi" };
    const disk: Disk = { ...data, readOnly: true, limits };
    const { actions } = look(now(disk), [], { attachments: [attachment({ disk })] });
    const config = actions.flatMap((action) => (action.kind === "attach-disk" ? [action.disk] : []))[0];
    expect(parseDiskConfig(config)).toEqual({
      name: "data",
      readOnly: true,
      queues: 2,
      limits: { requestsPerSecond: 100, bytesPerSecond: 1 << 20 },
      source: { kind: "attachment", podUid: HOLDER_UID },
    });
  });

  it("needs no restart, wherever it stands in the spec, and the machine is ready meanwhile", () => {
    for (const disks of [
      [root, data],
      [data, root],
    ]) {
      const decision = look(machine({ disks }), []);
      expect(conditionOf(decision, "RestartRequired")?.status).toBe("False");
      expect(conditionOf(decision, "Ready")?.status).toBe("True");
      expect(conditionOf(decision, "Reconciling")).toMatchObject({ status: "True", reason: "DiskAttaching" });
      expect(conditionOf(decision, "Reconciling")?.message).toMatch(/^Disk data: /);
    }
  });

  it.each<[string, Disk]>([
    ["is not on a claim", { name: "data", readOnly: false, emptyDisk: { size: "1Gi" } }],
    ["is one that the machine was started with, changed", { ...root, image: { reference: "other" } }],
  ])("needs a restart where it %s", (_what, disk) => {
    const disks = disk.name === "root" ? [disk] : [root, disk];
    const decision = look(machine({ disks }), []);
    expect(deeds(decision)).toEqual([]);
    expect(conditionOf(decision, "RestartRequired")?.status).toBe("True");
  });

  it("waits until the guest has taken it, and says so", () => {
    const decision = look(now(data), [seen("Attaching")], { attachments: [attachment()] });
    expect(volumeOf(decision)).toMatchObject({ state: "Attaching", message: expect.stringMatching(/driver/) });
    expect(decision.wakeAtMs).toBe(NOW_MS + 1000);
  });

  it.each<[string, Partial<ClaimFacts> | null, string]>([
    ["does not exist", null, "ClaimNotFound"],
    ["is lost", { phase: "Lost" }, "ClaimLost"],
    ["is being deleted", { deleting: true }, "ClaimDeleting"],
    ["can only be read", { accessModes: ["ReadOnlyMany"] }, "ClaimReadOnly"],
  ])("gets no pod while its claim %s", (_what, changes, reason) => {
    const vm = { ...now(data), status: { podUID: POD_UID } };
    const decision = look(vm, [], { claims: changes === null ? {} : { c: claim("c", changes) } });
    expect(deeds(decision)).toEqual([]);
    expect(conditionOf(decision, "Reconciling")).toMatchObject({ reason });
    expect(conditionOf(decision, "Ready")?.status).toBe("True");
    expect(volumeOf(decision)).toMatchObject({
      state: "Pending",
      message: expect.stringContaining("Claim c of disk data"),
    });
    const events = decision.actions.flatMap((action) => (action.kind === "write-status" ? action.events : []));
    expect(events).toContainEqual(expect.objectContaining({ type: "Warning", reason }));
  });

  it("gets no pod while another machine has its claim", () => {
    const attachmentRivals = [{ claimName: "c", vmName: "other", runs: true }];
    const decision = look(now(data), [], { attachmentRivals });
    expect(deeds(decision)).toEqual([]);
    expect(conditionOf(decision, "Reconciling")).toMatchObject({
      reason: "ClaimInUse",
      message: expect.stringContaining("VirtualMachine other"),
    });
  });

  it("gets a pod while its claim waits for its first consumer", () => {
    const unbound = { c: claim("c", { phase: "Pending", capacityBytes: undefined }) };
    expect(deeds(look(now(data), [], { claims: unbound }))).toEqual([`create-attachment ${NAME}`]);
  });

  it("has its claim made first where that is from a template", () => {
    const disk: Disk = { name: "data", readOnly: false, volumeClaimTemplate: { name: "t" } };
    const template = {
      metadata: { name: "t" },
      spec: {
        accessModes: ["ReadWriteOnce" as const],
        volumeMode: "Block" as const,
        resources: { requests: { storage: "1Gi" } },
      },
    };
    const vm = machine({ disks: [root, disk], volumeClaimTemplates: [template] });
    const { actions } = look(vm, [], { claims: {} });
    expect(actions.map(({ kind }) => kind)).toContain("apply-claim");
    expect(deeds(look(vm, [], { claims: { "t-web": claim("t-web", { mode: "Block" }) } }))).toEqual([
      `create-attachment ${NAME}`,
    ]);
  });

  it("says what its pod waits for", () => {
    const unschedulable = { type: "PodScheduled", status: "False", reason: "Unschedulable", message: "Too many pods" };
    const status = { conditions: [unschedulable] };
    const decision = look(now(data), [], { attachments: [attachment({ phase: "Pending", status })] });
    expect(conditionOf(decision, "Reconciling")).toMatchObject({
      reason: "Unschedulable",
      message: expect.stringContaining("Too many pods"),
    });
    const note = 'MountVolume.MountDevice failed for volume "pv" : no such device';
    const attachmentWarnings = { [HOLDER_UID]: [{ reason: "FailedMount" as const, note, atMs: NOW_MS }] };
    const hung = look(now(data), [], { attachments: [attachment({ phase: "Pending" })], attachmentWarnings });
    expect(conditionOf(hung, "Reconciling")?.reason).toBe("VolumeNotReady");
  });

  it("says why its holder fails", () => {
    const word =
      '{"version":1,"reason":"DiskUnavailable","message":"disk data: /disks/data/disk.img is not a regular file"}';
    const terminated = { exitCode: 66, message: word };
    const waiting = { reason: "CrashLoopBackOff", message: "back-off 10s restarting failed container" };
    const container = { name: "holder", image: "", imageID: "", ready: false, restartCount: 2 };
    const status = { containerStatuses: [{ ...container, state: { waiting }, lastState: { terminated } }] };
    const decision = look(now(data), [], { attachments: [attachment({ status })] });
    expect(deeds(decision)).toEqual([]);
    expect(conditionOf(decision, "Reconciling")).toMatchObject({
      reason: "DiskNotAttached",
      message: "Disk data: disk data: /disks/data/disk.img is not a regular file",
    });
    const recovered = { containerStatuses: [{ ...container, state: { running: {} }, lastState: { terminated } }] };
    const again = look(now(data), [], { attachments: [attachment({ status: recovered })] });
    expect(deeds(again)).toEqual(["attach-disk data"]);
  });

  it("gets no pod while the machine has its claim for another disk", () => {
    const renamed: Disk = { ...data, name: "other" };
    const pod = podOf(machine({ disks: [root, data] }), "running", claims);
    const ofLauncher = look(now(renamed), [seen()], { pod });
    expect(deeds(ofLauncher)).toEqual([]);
    expect(conditionOf(ofLauncher, "Reconciling")).toMatchObject({
      reason: "DiskNotAttached",
      message: expect.stringContaining("still with pod vm-web"),
    });
    const ofAttachment = look(now(renamed), [seen()], { attachments: [attachment()] });
    expect(deeds(ofAttachment)).toEqual(["detach-disk data"]);
  });

  it("is left alone while the node does not answer", () => {
    const lost = { ...node, ready: "Unknown" as const };
    expect(deeds(look(now(data), [], { node: lost, attachments: [attachment()] }))).toEqual([]);
    expect(deeds(look(now(), [seen()], { node: null, attachments: [attachment()] }))).toEqual([]);
  });

  it("is tried again later when it was refused, and says so all the while", () => {
    const refusal = { message: "disk data: is in use", isPassing: false, count: 3, atMs: NOW_MS - 100 };
    const soon = look(now(data), [], { attachments: [attachment()], deviceRefusals: { data: refusal } });
    expect(deeds(soon)).toEqual([]);
    expect(soon.wakeAtMs).toBe(NOW_MS + 1900);
    const late = { data: { ...refusal, atMs: NOW_MS - 5_000 } };
    const again = look(now(data), [], { attachments: [attachment()], deviceRefusals: late });
    expect(deeds(again)).toEqual(["attach-disk data"]);
    for (const decision of [soon, again])
      expect(conditionOf(decision, "Reconciling")).toMatchObject({ reason: "DiskNotAttached" });
  });

  it("is not begun while the machine is stopping, or was not heard", () => {
    const leaving = { ...running(), metadata: { ...running().metadata, deletionTimestamp: at(-1) } };
    expect(deeds(look(now(data), [], { pod: leaving }))).toEqual([]);
    expect(deeds(look(machine({ ...now(data).spec, runStrategy: "Halted" }), []))).toEqual([]);
    const decision = decide(observation(now(data), { pod: running(), claims }), settings, NOW_MS);
    expect(deeds(decision)).toEqual([]);
  });

  it("is part of a machine that has not started yet, whose pod is made anew", () => {
    const pod = podOf(machine(), "scheduled");
    const { actions } = decide(observation(now(data), { pod, claims }), settings, NOW_MS);
    expect(actions.map(({ kind }) => kind)).toContain("delete-pod");
  });
});

describe("a disk that a running machine's spec has lost", () => {
  it("is asked back from the guest, and its pod stays until it is gone", () => {
    const attachments = [attachment()];
    const asked = look(now(), [seen()], { attachments });
    expect(deeds(asked)).toEqual(["detach-disk data"]);
    expect(volumeOf(asked)).toEqual({ name: "data", state: "Detaching", message: expect.stringMatching(/guest/) });
    const waiting = look(now(), [seen("Detaching")], { attachments });
    expect(deeds(waiting)).toEqual([]);
    expect(waiting.wakeAtMs).toBe(NOW_MS + 1000);
    expect(conditionOf(waiting, "Reconciling")).toMatchObject({ reason: "DiskDetaching" });
    expect(deeds(look(now(), [], { attachments }))).toEqual([`delete-attachment ${NAME}`]);
    expect(deeds(look(now(), [], { attachments: [attachment({ meta: { deletionTimestamp: at(-1) } })] }))).toEqual([]);
  });

  it("is asked for again, ever more rarely", () => {
    const vm = now();
    const reconciling = { type: "Reconciling" as const, status: "True" as const, reason: "DiskDetaching", message: "" };
    const since = (seconds: number) => ({ ...reconciling, observedGeneration: 3, lastTransitionTime: at(-seconds) });
    const decision = (seconds: number, answeredSecondsAgo: number) => {
      const launcher = launcherSays(running(), { disks: [rootSeen, seen("Detaching")] });
      const status = { conditions: [since(seconds)] };
      return decide(
        observation(
          { ...vm, status },
          {
            pod: running(),
            claims,
            launcher: { ...launcher, answeredAtMs: NOW_MS - answeredSecondsAgo * 1000 },
            attachments: [attachment()],
          },
        ),
        settings,
        NOW_MS,
      );
    };
    expect(deeds(decision(40, 10))).toEqual(["detach-disk data"]);
    expect(decision(40, 2).wakeAtMs).toBe(NOW_MS + 8_000);
    expect(decision(10_000, 50).wakeAtMs).toBe(NOW_MS + 10_000);
  });

  it("waits for a restart where the machine was started with it", () => {
    const vm = machine({ disks: [root] });
    const pod = podOf(machine({ disks: [root, data] }), "running", claims);
    const decision = look(vm, [seen()], { pod });
    expect(deeds(decision)).toEqual([]);
    expect(conditionOf(decision, "RestartRequired")).toMatchObject({
      status: "True",
      message: expect.stringContaining("spec.disks[data]"),
    });
  });

  it("goes before it comes again in another form", () => {
    const other: Disk = { ...data, persistentVolumeClaim: { claimName: "d" } };
    const both = { c: claim("c"), d: claim("d") };
    const attachments = [attachment()];
    expect(deeds(look(now(other), [seen()], { attachments, claims: both }))).toEqual(["detach-disk data"]);
    expect(deeds(look(now(other), [], { attachments, claims: both }))).toEqual([`delete-attachment ${NAME}`]);
    const leaving = [attachment({ meta: { deletionTimestamp: at(-1) } })];
    expect(deeds(look(now(other), [], { attachments: leaving, claims: both }))).toEqual([]);
    expect(deeds(look(now(other), [], { claims: both }))).toEqual([`create-attachment ${NAME}`]);
  });
});

describe("an attachment pod", () => {
  it("that is leaving while the guest has its disk is replaced, and the guest keeps the disk", () => {
    const leaving = attachment({ meta: { deletionTimestamp: at(-1) } });
    const decision = look(now(data), [seen()], { attachments: [leaving] });
    expect(deeds(decision)).toEqual([`create-attachment ${SECOND_NAME}`]);
    expect(volumeOf(decision)?.state).toBe("Attached");
    const second = attachment({ name: SECOND_NAME, meta: { uid: "x" } });
    expect(deeds(look(now(data), [seen()], { attachments: [leaving, second] }))).toEqual([]);
    expect(
      deeds(
        look(now(data), [seen()], {
          attachments: [leaving, { ...leaving, metadata: { ...leaving.metadata, name: SECOND_NAME } }],
        }),
      ),
    ).toEqual([]);
  });

  it("that has ended is replaced, and removed after a while", () => {
    const ended = attachment({ phase: "Failed" });
    const decision = look(now(data), [], { attachments: [ended] });
    expect(deeds(decision)).toEqual([`create-attachment ${SECOND_NAME}`]);
    expect(decision.wakeAtMs).toBe(NOW_MS + 5_000);
    const old = attachment({ phase: "Failed", meta: { creationTimestamp: at(-20) } });
    expect(deeds(look(now(data), [], { attachments: [old] }))).toContain(`delete-attachment ${NAME}`);
  });

  it("of a launcher that has ended goes, and the next one does not start before", () => {
    const attachments = [attachment()];
    const ended = decide(observation(now(data), { claims, attachments }), settings, NOW_MS);
    expect(deeds(ended)).toEqual([`delete-attachment ${NAME}`]);
    expect(conditionOf(ended, "Ready")).toMatchObject({ message: expect.stringContaining(NAME) });
    expect(deeds(decide(observation(now(data), { claims }), settings, NOW_MS))).toEqual(["start"]);
    const halted = machine({ ...now(data).spec, runStrategy: "Halted" });
    expect(deeds(decide(observation(halted, { claims, attachments }), settings, NOW_MS))).toEqual([
      `delete-attachment ${NAME}`,
    ]);
  });

  it("of a machine that is being deleted is left to the garbage collector", () => {
    const vm = now(data);
    const gone = { ...vm, metadata: { ...vm.metadata, deletionTimestamp: at(-1) } };
    expect(deeds(look(gone, [seen()], { attachments: [attachment()] }))).toEqual([]);
  });

  it("asks for what it needs on the launcher's node, and no more", () => {
    const vm = machine({
      disks: [root, data],
      template: { spec: { tolerations: [{ key: "vm", operator: "Exists" }] } },
    });
    const launcher = podOf(vm, "running", claims);
    const pod = attachmentPod(vm, { settings, name: NAME, disk: data, claims, launcher });
    expect(pod.metadata).toMatchObject({
      labels: { "typevisor.io/attachment-of": "web", "app.kubernetes.io/managed-by": "typevisor" },
      ownerReferences: [{ kind: "VirtualMachine", uid: VM_UID, controller: true }],
    });
    expect(pod.metadata?.labels).not.toHaveProperty("typevisor.io/vm");
    expect(pod.spec).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, fsGroup: 10001, seccompProfile: { type: "RuntimeDefault" } },
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: ["node-1"] }] }],
          },
        },
      },
      volumes: [{ name: "disk-data", persistentVolumeClaim: { claimName: "c" } }],
    });
    expect(pod.spec?.tolerations).toContainEqual({ key: "vm", operator: "Exists" });
    const [container] = pod.spec?.containers ?? [];
    expect(container).toMatchObject({
      resources: { limits: { "devices.typevisor.io/kvm": "1" } },
      securityContext: {
        allowPrivilegeEscalation: false,
        capabilities: { drop: ["ALL"] },
        readOnlyRootFilesystem: true,
      },
      volumeMounts: [{ name: "disk-data", mountPath: "/disks/data" }],
    });
    expect(parseHoldOptions((container?.args ?? []).slice(1))).toMatchObject({
      disk: "data",
      to: POD_UID,
      readOnly: false,
      source: { kind: "directory", path: "/disks/data", sizeBytes: 10 * 2 ** 30 },
    });
  });

  it("of a Block claim gets the device alone, and of a disk that is only read a volume that is", () => {
    const disk: Disk = { ...data, readOnly: true };
    const block = { c: claim("c", { mode: "Block" }) };
    const pod = attachmentPod(now(disk), { settings, name: NAME, disk, claims: block, launcher: running() });
    const [container] = pod.spec?.containers ?? [];
    expect(container?.volumeDevices).toEqual([{ name: "disk-data", devicePath: "/dev/typevisor/data" }]);
    expect(pod.spec?.volumes).toEqual([
      { name: "disk-data", persistentVolumeClaim: { claimName: "c", readOnly: true } },
    ]);
    expect(parseHoldOptions((container?.args ?? []).slice(1))).toMatchObject({
      readOnly: true,
      source: { kind: "raw", path: "/dev/typevisor/data" },
    });
  });

  it("has its disk grow with its claim", () => {
    const grown = { c: claim("c", { capacityBytes: 20 * 2 ** 30 }) };
    const { actions } = look(now(data), [seen()], { attachments: [attachment()], claims: grown });
    expect(actions).toContainEqual(
      expect.objectContaining({ kind: "resize-disk", disk: "data", sizeBytes: 20 * 2 ** 30 }),
    );
  });
});
