import { describe, expect, it } from "@jest/globals";
import { decide } from "./decide.ts";
import {
  at,
  launcherSays,
  machine,
  NOW_MS,
  networkInterface,
  observation,
  podOf,
  settings,
} from "./testing/fixtures.ts";
import { migrationOf, targetPodOf } from "./testing/migration-fixtures.ts";

describe("a machine that moves", () => {
  const ends = { source: { node: "node-1", podName: "vm-web" }, target: { node: "node-2", podName: "vm2-web" } };
  const underWay = migrationOf({ phase: "Copying", startedAt: "2026-01-01T00:00:00Z", ...ends });
  const vm = machine({ disks: [] });
  const source = podOf(vm, "running");
  const write = (parts: Parameters<typeof observation>[1], subject = vm) => {
    const { actions } = decide(observation(subject, parts), settings, NOW_MS);
    return actions.find((action) => action.kind === "write-status");
  };
  const running = write({ pod: source, launcher: launcherSays(source, {}) })?.status;
  const known = { ...vm, ...(running && { status: running }) };

  it("says from where to where, and is as ready as before", () => {
    const parts = { pod: source, incoming: targetPodOf(vm, "running"), launcher: launcherSays(source, {}) };
    const status = write({ ...parts, migrations: [underWay] }, known)?.status;
    expect(status).toMatchObject({ phase: "Migrating", migration: { name: "move", phase: "Copying", ...ends } });
    expect(status?.podName).toBe("vm-web");
    expect(status?.conditions).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ type: "Ready", status: "True" }),
        expect.objectContaining({
          type: "Migrating",
          status: "True",
          message: "VirtualMachineMigration move moves the machine from node node-1 to node node-2",
        }),
      ]),
    );
  });

  it("is not started again when its pod has ended, while it may go on in the other", () => {
    const incoming = targetPodOf(vm, "running");
    for (const pod of [undefined, { ...source, status: { phase: "Failed" } }]) {
      const { actions } = decide(observation(known, { ...(pod && { pod }), incoming }), settings, NOW_MS);
      expect(actions.map(({ kind }) => kind)).toEqual(["write-status"]);
      expect(actions[0]).toMatchObject({ status: { podName: "vm-web", restarts: 0 } });
      expect(actions[0]).not.toHaveProperty("status.lastTermination");
    }
  });

  it("goes on with the same run in its new pod, and tells how long it stood still", () => {
    const pod = targetPodOf(vm, "running", true);
    const result = {
      ...{ totalMilliseconds: 300, downtimeMilliseconds: 21 },
      downtime: { halt: 1, lastPass: 10, state: 3, load: 3, resume: 4 },
    };
    const over = migrationOf({ ...underWay.status, phase: "Succeeded", completedAt: "2026-01-01T00:01:00Z", result });
    const status = write({ pod, migrations: [over] }, known)?.status;
    expect(status).toMatchObject({
      phase: "Running",
      podName: "vm2-web",
      node: "node-2",
      startedAt: running?.startedAt,
    });
    expect(status?.lastMigration).toMatchObject({ name: "move", phase: "Succeeded", downtimeMilliseconds: 21 });
    expect(status?.conditions?.find(({ type }) => type === "Ready")?.status).toBe("True");
    // The object is collected some day; what was is kept.
    const later = write({ pod, migrations: [] }, { ...known, ...(status && { status }) })?.status ?? status;
    expect(later?.lastMigration).toMatchObject({ name: "move" });
  });

  it("tells of its move where the object was deleted before it was seen to be over", () => {
    const pod = targetPodOf(vm, "running", true);
    const moving = { ...known, status: { ...known.status, migration: { name: "move", phase: "Finishing", ...ends } } };
    const status = write({ pod, migrations: [] }, moving as typeof known)?.status;
    expect(status).not.toHaveProperty("migration");
    expect(status?.lastMigration).toEqual({
      ...{ name: "move", phase: "Succeeded", message: expect.stringContaining("deleted"), completedAt: at(0) },
      source: ends.source,
      target: { node: "node-2", podName: "vm2-web" },
    });
    // It is told once, and gives way to what came after.
    const moved = { ...known, ...(status && { status }) };
    expect(write({ pod, migrations: [] }, moved)).toBeUndefined();
    const failed = { ...migrationOf({ phase: "Failed", startedAt: at(10), completedAt: at(20) }) };
    const later = { ...failed, metadata: { ...failed.metadata, name: "away", uid: "another" } };
    expect(write({ pod, migrations: [later] }, moved)?.status?.lastMigration).toMatchObject({ name: "away" });
  });

  it("does not tell of a move before it is over", () => {
    const pod = targetPodOf(vm, "running", true);
    const finishing = migrationOf({ ...underWay.status, phase: "Finishing" });
    const status = write({ pod, migrations: [finishing] }, known)?.status;
    expect(status).toHaveProperty("migration.phase", "Finishing");
    expect(status).not.toHaveProperty("lastMigration");
  });

  it("is asked neither to go on nor to change while it stands still in the old pod", () => {
    const incoming = targetPodOf(vm, "running");
    const frozen = launcherSays(source, {
      state: "Paused",
      pause: { asked: false, storageFull: [] },
      interfaces: [networkInterface("default", { link: "down" })],
    });
    const { actions } = decide(observation(known, { pod: source, incoming, launcher: frozen }), settings, NOW_MS);
    expect(actions.map(({ kind }) => kind)).not.toContain("resume");
    expect(actions.map(({ kind }) => kind)).not.toContain("set-link");
    const status = write({ pod: source, incoming, launcher: frozen }, known)?.status;
    expect(status?.conditions?.find(({ type }) => type === "Ready")).toMatchObject({
      status: "True",
      reason: "Migrating",
      message: "The guest stands still while it moves to pod vm2-web",
    });
    // Without a pod to move to, a guest that nobody paused is asked to go on.
    const alone = decide(observation(known, { pod: source, launcher: frozen }), settings, NOW_MS).actions;
    expect(alone.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["resume", "set-link"]));
  });

  it("is asked whether it waits for a word where neither a migration nor a pod to move to is left, again and again", () => {
    const frozen = { state: "Paused", reason: "Frozen", pause: { asked: false, storageFull: [] } } as const;
    const alone = { pod: source, launcher: launcherSays(source, frozen) };
    const { actions, wakeAtMs } = decide(observation(known, alone), settings, NOW_MS);
    expect(actions.map(({ kind }) => kind)).toContain("settle-hand-over");
    expect(actions.map(({ kind }) => kind)).not.toContain("resume");
    expect(wakeAtMs).toBe(NOW_MS + 5_000);
    const moves = decide(observation(known, { ...alone, migrations: [underWay] }), settings, NOW_MS).actions;
    expect(moves.map(({ kind }) => kind)).not.toEqual(expect.arrayContaining(["settle-hand-over"]));
    expect(moves.map(({ kind }) => kind)).not.toContain("resume");
  });
});
