import { describe, expect, it } from "@jest/globals";
import type { VirtualMachineMigrationStatus } from "../../../../crds/src/virtualmachinemigration.ts";
import type { MigrationStatus, SourcePhase, TargetPhase } from "../../../../launcher/api/migration.ts";
import type { Pod } from "../../runtime/wire.ts";
import { decide as decideMachine } from "../virtualmachine/decide.ts";
import {
  at,
  container,
  lastWord,
  launcherSays,
  lostPod,
  machine,
  settings as machineSettings,
  NOW_MS,
  node,
  observation as ofMachine,
  POD_UID,
  podOf,
  rejectedPod,
} from "../virtualmachine/testing/fixtures.ts";
import {
  MIGRATION_UID,
  migrationOf,
  migrationSettings,
  TARGET_UID,
  targetPodOf,
} from "../virtualmachine/testing/migration-fixtures.ts";
import { decide } from "./decide.ts";
import { FINALIZER } from "./names.ts";
import type { Heard, Observation, Side } from "./observation.ts";

const plain = machine({ disks: [] });
const sourcePod = podOf(plain, "running");
const said = launcherSays(sourcePod, { cannotMove: [] });
const written = decideMachine(
  ofMachine(plain, { pod: sourcePod, launcher: said }),
  machineSettings,
  NOW_MS,
).actions.find((action) => action.kind === "write-status");
const vm = { ...plain, ...(written?.kind === "write-status" && { status: written.status }) };
const targetPod = targetPodOf(plain, "running");

const source = (phase: SourcePhase | "idle"): Heard => {
  const status: MigrationStatus =
    phase === "idle"
      ? { role: "none", phase: null, message: "" }
      : { role: "source", id: MIGRATION_UID, phase, message: `it is ${phase}` };
  return { status, error: undefined, answeredAtMs: NOW_MS };
};
const target = (phase: TargetPhase): Heard => ({
  status: { role: "target", phase, message: "" },
  error: undefined,
  answeredAtMs: NOW_MS,
});
const side = (pod: Pod, heard?: Heard): Side => ({ pod, node, heard });

const begun: VirtualMachineMigrationStatus = {
  phase: "Preparing",
  startedAt: at(-10),
  source: { node: "node-1", podName: "vm-web", podUID: POD_UID },
  target: { node: "node-2", podName: "vm2-web", podUID: TARGET_UID },
};

function seen(changes: Partial<Observation> = {}, status: VirtualMachineMigrationStatus = begun): Observation {
  return {
    migration: migrationOf(status),
    isAbandoned: false,
    ofOther: undefined,
    vm,
    current: sourcePod,
    source: side(sourcePod, source("idle")),
    target: side(targetPod, target("Listening")),
    inTheWay: undefined,
    sourceGoneAtMs: undefined,
    progressWrittenAtMs: 0,
    waitsFor: undefined,
    nodes: [node],
    targetClaimProblem: undefined,
    disksWithoutTarget: [],
    refusal: undefined,
    ...changes,
  };
}

const decided = (observation: Observation) => decide(observation, migrationSettings, NOW_MS).actions;
const kinds = (observation: Observation) => decided(observation).map(({ kind }) => kind);
const statusOf = (observation: Observation) => {
  const write = decided(observation).find((action) => action.kind === "write-status");
  return write?.kind === "write-status" ? write.status : undefined;
};
/** Neither pod is touched, and nobody is told anything. */
const isHarmless = (observation: Observation) =>
  kinds(observation).every((kind) => kind === "write-status" || kind === "follow");

const killed = {
  ...sourcePod,
  status: { phase: "Failed", containerStatuses: [container({ terminated: { exitCode: 137, startedAt: at(-50) } })] },
};
const moved = {
  ...sourcePod,
  status: {
    phase: "Succeeded",
    containerStatuses: [container({ terminated: { exitCode: 0, startedAt: at(-50), message: lastWord("Migrated") } })],
  },
};

describe("a migration whose turn has come", () => {
  const waiting = (changes: Partial<Observation> = {}) =>
    seen({ target: undefined, migration: migrationOf(undefined), ...changes });

  it("says so before it does anything", () => {
    expect(kinds(waiting())).toEqual(["write-status"]);
    expect(statusOf(waiting())).toMatchObject({ phase: "Preparing", startedAt: at(0), source: begun.source });
  });

  it("does nothing before", () => {
    const waits = waiting({ waitsFor: "Waits for its turn" });
    expect(kinds(waits)).toEqual(["write-status"]);
    expect(statusOf(waits)).toMatchObject({ phase: "Pending" });
    expect(statusOf(waits)).not.toHaveProperty("startedAt");
  });

  it.each<[string, Partial<Observation>, string]>([
    [
      "runs in another pod than its status says",
      { current: { ...sourcePod, metadata: { ...sourcePod.metadata, uid: "new" } } },
      "Pending",
    ],
    [
      "is stopping",
      { current: { ...sourcePod, metadata: { ...sourcePod.metadata, deletionTimestamp: at(0) } } },
      "Pending",
    ],
    ["is to be off", { vm: { ...vm, status: { ...vm.status, phase: "Stopped" } } }, "Failed"],
  ])("does not begin with a machine that %s", (_what, changes, phase) => {
    expect(statusOf(waiting(changes))).toMatchObject({ phase });
    expect(statusOf(waiting(changes))).not.toHaveProperty("startedAt");
  });

  it("does not begin while a pod of another migration is there", () => {
    const waits = statusOf(waiting({ ofOther: "vm2-web" }));
    expect(waits).toMatchObject({ phase: "Pending" });
    expect(waits?.conditions?.[0]?.message).toMatch(/Pod vm2-web of another migration/);
    expect(waits).not.toHaveProperty("startedAt");
  });

  it("gives the source what the migration asks for, and else the cluster's policy", () => {
    const start = (spec = {}) => {
      const observation = { ...seen(), migration: migrationOf(begun, spec) };
      return decided(observation).find((action) => action.kind === "start");
    };
    expect(start()).toMatchObject({
      where: { podUID: POD_UID },
      request: { id: MIGRATION_UID, address: "10.0.0.7", port: 10444, maxDowntimeMs: 300, deadlineMs: 3_590_000 },
    });
    const own = { bandwidth: "1Mi", maxDowntimeMilliseconds: 20, deadlineSeconds: 60, autoConverge: false };
    expect(start(own)).toMatchObject({
      request: { bandwidthBytesPerSecond: 2 ** 20, maxDowntimeMs: 20, deadlineMs: 50_000, autoConverge: false },
    });
  });

  it("takes another migration's end in the same launcher for nothing of its own", () => {
    const old = source("Failed");
    const status = { ...old.status, id: "an earlier one" } as MigrationStatus;
    expect(kinds(seen({ source: side(sourcePod, { ...old, status }) }))).toContain("start");
  });
});

describe("the hand-over", () => {
  it.each<[SourcePhase, TargetPhase]>([
    ["HandingOver", "Prepared"],
    ["Committed", "Prepared"],
    ["Committed", "Undecided"],
    ["Gone", "Receiving"],
    ["Gone", "Prepared"],
  ])("is left alone while the source is %s and the target, as it was last heard, %s", (from, to) => {
    for (const phase of ["Copying", "Cancelling"] as const) {
      const sides = { source: side(sourcePod, source(from)), target: side(targetPod, target(to)) };
      const now = seen(sides, { ...begun, phase });
      const mayCancel = phase === "Cancelling" && from === "HandingOver";
      expect(mayCancel ? kinds(now).filter((kind) => kind !== "cancel") : kinds(now)).not.toContain("delete-pod");
      if (!mayCancel) expect(isHarmless(now)).toBe(true);
    }
  });

  it.each(["Undecided", "Prepared"] as const)(
    "is recorded before either is told, also where the target is %s",
    (phase) => {
      const sides = { source: side(sourcePod, source("Undecided")), target: side(targetPod, target(phase)) };
      const first = seen(sides, { ...begun, phase: "Copying" });
      expect(kinds(first)).toEqual(["note-decision", "write-status"]);
      const status = statusOf(first);
      expect(status?.handOver).toMatchObject({ decision: "target", decidedAt: at(0) });
      const next = decided(seen(sides, status)).filter(({ kind }) => kind === "tell");
      expect(next).toMatchObject([{ where: { podUID: TARGET_UID }, winner: "target" }]);
    },
  );

  it("is not decided anew where the new pod knows already, though its migration does not", () => {
    const annotations = { ...targetPod.metadata?.annotations, "typevisor.io/hand-over": "source" };
    const knows = { ...targetPod, metadata: { ...targetPod.metadata, annotations } };
    const sides = { source: side(sourcePod, source("Undecided")), target: side(knows, target("Undecided")) };
    const now = seen(sides, { ...begun, phase: "Copying" });
    expect(kinds(now)).toEqual(["write-status"]);
    expect(statusOf(now)).toMatchObject({ phase: "Cancelling", handOver: { decision: "source" } });
  });

  it("tells the source that it goes on only once the target knows that it does not", () => {
    const status = { ...begun, phase: "Cancelling", handOver: { decision: "source" } } as const;
    const told = (to: Side | undefined) =>
      decided(seen({ source: side(sourcePod, source("Undecided")), target: to }, status)).filter(
        ({ kind }) => kind === "tell",
      );
    expect(told(side(targetPod, target("Undecided")))).toMatchObject([{ where: { podUID: TARGET_UID } }]);
    expect(told(side(targetPod, target("Failed")))).toMatchObject([{ where: { podUID: POD_UID }, winner: "source" }]);
    expect(told(undefined)).toMatchObject([{ where: { podUID: POD_UID }, winner: "source" }]);
  });

  it("waits for what the target says where the source's pod is gone and nobody heard its last word", () => {
    for (const phase of ["Copying", "HandingOver"] as const) {
      const now = seen({ source: undefined, target: side(targetPod) }, { ...begun, phase });
      expect(kinds(now)).toContain("follow");
      expect(kinds(now)).not.toContain("delete-pod");
      expect(statusOf(now)?.phase).toBe("HandingOver");
    }
    const heard = seen(
      { source: undefined, target: side(targetPod, target("Running")) },
      { ...begun, phase: "Copying" },
    );
    expect(kinds(heard)).toContain("take-over");
    expect(statusOf(seen({ source: undefined, target: side(targetPod) }))?.phase).toBe("Cancelling");
  });

  it("believes nothing of the target that it heard before the source went", () => {
    const gone = { source: side(killed), sourceGoneAtMs: NOW_MS };
    for (const phase of ["Copying", "Cancelling"] as const) {
      const stale = seen({ ...gone, target: side(targetPod, target("Prepared")) }, { ...begun, phase });
      expect(isHarmless(stale)).toBe(true);
      expect(statusOf(stale)?.handOver).toBeUndefined();
    }
    const fresh = { ...target("Prepared"), answeredAtMs: NOW_MS + 1 };
    const status = statusOf(seen({ ...gone, target: side(targetPod, fresh) }, { ...begun, phase: "Copying" }));
    expect(status).toMatchObject({ phase: "Cancelling", handOver: { decision: "neither" } });
    expect(status?.conditions?.[0]?.reason).toBe("MigrationLost");
  });

  it.each<[string, Partial<Observation>]>([
    ["is to be off", { vm: { ...vm, spec: { ...vm.spec, runStrategy: "Halted" } } }],
    ["is gone", { vm: undefined }],
  ])("is cancelled, and the machine not lost, where both pods end since it %s", (_what, change) => {
    const fresh = { ...target("Prepared"), answeredAtMs: NOW_MS + 1 };
    const ended = { source: side(killed), sourceGoneAtMs: NOW_MS, target: side(targetPod, fresh) };
    const status = statusOf(seen({ ...ended, ...change }, { ...begun, phase: "Copying" }));
    expect(status).toMatchObject({ phase: "Cancelling", handOver: { decision: "neither" } });
    expect(status?.conditions?.[0]?.reason).toBe("MigrationCancelled");
  });

  it("is over once the target runs, whatever else was wanted", () => {
    const runs = { source: side(moved), target: side(targetPod, target("Running")), sourceGoneAtMs: NOW_MS };
    const deleted = migrationOf({ ...begun, phase: "Cancelling" });
    deleted.metadata.deletionTimestamp = at(0);
    expect(kinds({ ...seen(runs), migration: deleted })).toEqual(["write-status", "take-over"]);
  });

  it("lets the source go on beside a target that never ran, but not where nobody saw whether it did", () => {
    const decisionBeside = ({ status = {} }: Pod) => {
      const sides = { source: side(sourcePod, source("Undecided")), target: side({ ...targetPod, status }) };
      return statusOf(seen(sides, { ...begun, phase: "HandingOver" }))?.handOver?.decision;
    };
    expect(decisionBeside(rejectedPod(plain))).toBe("source");
    expect(decisionBeside(lostPod(plain))).toBe("neither");
  });

  it("gives the machine to a target that ended before anyone saw it run, so that its end is counted", () => {
    const ended = { ...targetPod, status: { ...killed.status } };
    const now = seen(
      { source: side(moved), target: side(ended), sourceGoneAtMs: NOW_MS },
      { ...begun, phase: "Copying" },
    );
    expect(kinds(now)).toContain("take-over");
  });
});

describe("a migration that is taken back", () => {
  const deleted = (status: VirtualMachineMigrationStatus) => {
    const migration = migrationOf(status);
    migration.metadata.deletionTimestamp = at(0);
    return migration;
  };
  const copying = { source: side(sourcePod, source("Copying")), target: side(targetPod, target("Receiving")) };

  it("has the source stop before the target goes, and ends as it was taken back for", () => {
    const first = { ...seen(copying), migration: deleted({ ...begun, phase: "Copying" }) };
    const status = statusOf(first);
    expect(status).toMatchObject({ phase: "Cancelling" });
    const second = { ...seen(copying), migration: deleted(status ?? {}) };
    expect(kinds(second)).toContain("cancel");
    expect(kinds(second)).not.toContain("delete-pod");
    const third = {
      ...seen({ ...copying, source: side(sourcePod, source("Failed")) }),
      migration: deleted(status ?? {}),
    };
    expect(kinds(third)).toContain("delete-pod");
    const last = {
      ...seen({ source: side(sourcePod, source("Failed")), target: undefined }),
      migration: deleted(status ?? {}),
    };
    expect(statusOf(last)).toMatchObject({ phase: "Cancelled", completedAt: at(0) });
    expect(kinds({ ...last, migration: deleted(statusOf(last) ?? {}) })).toEqual([]);
  });

  it("holds nothing up: a finalizer of an earlier version goes before anything else, in any phase", () => {
    for (const phase of ["Pending", "Copying", "Cancelling", "Succeeded"] as const) {
      const migration = deleted({ ...begun, phase });
      migration.metadata.finalizers = ["example.com/stays", FINALIZER];
      expect(kinds({ ...seen(copying), migration })).toEqual(["remove-finalizer"]);
    }
  });

  it("waits for a source that does not answer, whatever it last said", () => {
    const silent = { ...source("Copying"), error: "connect ETIMEDOUT" };
    const now = seen({ ...copying, source: side(sourcePod, silent) }, { ...begun, phase: "Cancelling" });
    expect(isHarmless(now)).toBe(true);
  });

  it("removes a pod from a node that is off for sure, and does not wait for that node", () => {
    const terminating = { ...targetPod, metadata: { ...targetPod.metadata, deletionTimestamp: at(-60) } };
    const onNode = (outOfService: boolean) => ({ ...side(terminating), node: { ...node, outOfService } });
    const now = (off: boolean) =>
      decided(
        seen({ source: side(sourcePod, source("Failed")), target: onNode(off) }, { ...begun, phase: "Cancelling" }),
      );
    expect(now(true)).toEqual(expect.arrayContaining([expect.objectContaining({ kind: "delete-pod", force: true })]));
    expect(now(false).map(({ kind }) => kind)).not.toContain("delete-pod");
  });

  it.each<[string, Partial<Observation>, VirtualMachineMigrationStatus, string]>([
    ["nothing listens in time", { target: undefined }, { ...begun, startedAt: at(-301) }, "TargetNotReady"],
    [
      "the source gives up",
      { source: side(sourcePod, source("Failed")) },
      { ...begun, phase: "Copying" },
      "MigrationFailed",
    ],
    ["the source is silent for too long", copying, { ...begun, startedAt: at(-3700) }, "MigrationFailed"],
    ["the target ends", { target: side({ ...targetPod, status: { phase: "Failed" } }) }, begun, "MigrationFailed"],
  ])("is so when %s", (_what, changes, status, reason) => {
    const { target: _target, ...before } = status;
    const noTarget = "target" in changes && changes.target === undefined;
    const next = statusOf(seen(changes, noTarget ? before : status));
    expect(next).toMatchObject({ phase: "Cancelling" });
    expect(next?.conditions?.find(({ type }) => type === "Ready")?.reason).toBe(reason);
  });
});

describe("an operator that has only just started", () => {
  const unheard = { source: side(sourcePod), target: side(targetPod) };
  const longAgo = (phase: "Preparing" | "Copying" | "HandingOver" | "Cancelling"): VirtualMachineMigrationStatus => {
    const times = { observedGeneration: 1, lastTransitionTime: at(-900) };
    const ready = {
      type: "Ready",
      status: "False",
      reason: "Migrating",
      message: "2 passes so far",
      ...times,
    } as const;
    return { ...begun, phase, conditions: [ready], startedAt: at(-1000) };
  };

  it.each(["Copying", "HandingOver"] as const)("asks both launchers, and leaves the phase %s as it is", (phase) => {
    const now = seen(unheard, longAgo(phase));
    expect(decided(now).filter(({ kind }) => kind === "follow")).toMatchObject([
      { where: { podUID: POD_UID } },
      { where: { podUID: TARGET_UID } },
    ]);
    expect(isHarmless(now)).toBe(true);
    expect(statusOf(now)?.phase ?? phase).toBe(phase);
    if (phase === "Copying") expect(statusOf(now)?.conditions?.[0]?.message ?? "2 passes so far").toMatch(/2 passes/);
  });

  it("does not take a target that it cannot reach for one that never listened", () => {
    const silent: Heard = { status: undefined, error: "connect ETIMEDOUT", answeredAtMs: 0 };
    const now = seen(
      { source: side(sourcePod, source("Copying")), target: side(targetPod, silent) },
      longAgo("Copying"),
    );
    expect(statusOf(now)?.phase ?? "Copying").toBe("Copying");
    expect(isHarmless(now)).toBe(true);
  });

  it("asks the target before it says that nothing listens", () => {
    const now = (heard?: Heard) =>
      statusOf(seen({ source: side(sourcePod, source("idle")), target: side(targetPod, heard) }, longAgo("Preparing")));
    expect(now()?.phase ?? "Preparing").toBe("Preparing");
    const silent: Heard = { status: undefined, error: "connect ECONNREFUSED", answeredAtMs: 0 };
    expect(now(silent)?.phase).toBe("Cancelling");
  });

  it("asks the target of a migration that is taken back before it removes it, where the source is gone", () => {
    const gone = { source: side(killed), sourceGoneAtMs: NOW_MS };
    const now = seen({ ...gone, target: side(targetPod) }, longAgo("Cancelling"));
    expect(isHarmless(now)).toBe(true);
    const silent: Heard = { status: undefined, error: "connect ETIMEDOUT", answeredAtMs: 0 };
    expect(kinds(seen({ ...gone, target: side(targetPod, silent) }, longAgo("Cancelling")))).toContain("delete-pod");
  });
});

describe("the status", () => {
  it("is written for a phase at once, for progress alone now and then", () => {
    const progress = {
      ...{ rounds: 1, sentBytes: 3 * 2 ** 20, remainingBytes: 100, diskSentBytes: 0, diskRemainingBytes: 0 },
      ...{ bytesPerSecond: 2 ** 20, dirtyBytesPerSecond: 0, throttle: 0.25 },
    };
    const heard = source("Copying");
    const copying = { ...heard, status: { ...heard.status, progress } as MigrationStatus };
    const sides = { source: side(sourcePod, copying), target: side(targetPod, target("Receiving")) };
    const status = statusOf(seen(sides));
    expect(status?.progress).toEqual({
      ...{ rounds: 1, transferred: "3Mi", remaining: "100", rate: "1Mi/s", dirtyRate: "0/s", throttlePercent: 25 },
    });
    const later = { ...status, progress: { ...status?.progress, rounds: 0 } };
    expect(statusOf(seen({ ...sides, progressWrittenAtMs: NOW_MS - 1000 }, later))).toBeUndefined();
    expect(statusOf(seen({ ...sides, progressWrittenAtMs: NOW_MS - 6000 }, later))).toBeDefined();
    expect(statusOf(seen(sides, status))).toBeUndefined();
  });
});
