import { describe, expect, it } from "@jest/globals";
import type { LauncherStatus } from "../../../../launcher/api/control.ts";
import { LauncherError } from "../../launcher-client/launcher-client.ts";
import { FakeClock } from "../../runtime/testing/fake-clock.ts";
import { until } from "../../runtime/testing/until.ts";
import { type LauncherCalls, LauncherMonitor } from "./launcher-monitor.ts";
import { launcherSays, machine, networkInterface, podOf } from "./testing/fixtures.ts";

const question = { podUID: "p1", ip: "10.0.0.7", uid: "u1", key: "shop/web", readiness: "False" };
const running = launcherSays(podOf(machine(), "running"), {}).status as LauncherStatus;

function setUp(answers: (() => Promise<LauncherStatus>)[]) {
  const clock = new FakeClock();
  const woken: string[] = [];
  let calls = 0;
  const next = () => {
    calls += 1;
    return (answers.shift() ?? (() => new Promise<never>(() => undefined)))();
  };
  const launcher: LauncherCalls = {
    migration: () => Promise.reject(new Error("nobody asks this here")),
    decideMigration: () => Promise.reject(new Error("nobody asks this here")),
    status: next,
    waitFor: next,
    pause: next,
    resume: next,
    resizeDisk: next,
    limitOverlay: next,
    attachDisk: next,
    detachDisk: next,
    attachInterface: next,
    detachInterface: next,
    setLink: next,
  };
  const monitor = new LauncherMonitor(launcher, clock, (key) => woken.push(key));
  return { clock, woken, monitor, calls: () => calls };
}
const refused = () => Promise.reject(new LauncherError(0, "Unreachable", "ECONNREFUSED"));
const notYet = () => Promise.reject(new LauncherError(408, "Timeout", "not yet"));

describe("LauncherMonitor", () => {
  it("knows nothing of a launcher that did not answer when it was given a disk, or was asked for one", async () => {
    const source = { kind: "attachment", podUid: "p2" } as const;
    const disk = { name: "data", readOnly: false, queues: 1, source };
    for (const act of ["attach", "detach"] as const) {
      const conflict = () => Promise.reject(new LauncherError(409, "Conflict", "in use"));
      const { monitor } = setUp([async () => running, conflict, refused]);
      monitor.ask(question);
      await until(() => monitor.facts("p1")?.status);
      const give = () => (act === "attach" ? monitor.attachDisk(question, disk) : monitor.detachDisk(question, "data"));
      await expect(give()).rejects.toThrow("in use");
      expect(monitor.facts("p1")?.status).toBeDefined();
      await expect(give()).rejects.toThrow("ECONNREFUSED");
      expect(monitor.facts("p1")).toMatchObject({ status: undefined, readiness: "" });
    }
  });

  it("asks until it is answered, and wakes the machine then", async () => {
    const { monitor, clock, woken, calls } = setUp([refused, refused, async () => running]);
    monitor.ask(question);
    await until(() => {
      clock.advance(100);
      return monitor.facts("p1")?.status;
    });
    expect(calls()).toBe(3);
    expect(monitor.facts("p1")).toMatchObject({ error: undefined, readiness: "False" });
    // Once for the first error, once for the answer.
    expect(woken).toEqual(["shop/web", "shop/web"]);
  });

  it("asks a launcher that does not listen yet again before it has waited much longer than it had", async () => {
    const { monitor, clock, calls } = setUp(Array.from({ length: 100 }, () => refused));
    monitor.ask(question);
    const askedAtMs: number[] = [0];
    for (let nowMs = 0; nowMs < 2000; nowMs += 5) {
      await until(() => clock.nextTimerMs !== undefined);
      clock.advance(5);
      if (clock.nextTimerMs === undefined) {
        askedAtMs.push(nowMs + 5);
      }
    }
    for (const [n, atMs] of askedAtMs.entries()) {
      const beforeMs = askedAtMs[n - 1] ?? 0;
      expect(atMs - beforeMs).toBeLessThanOrEqual(30 + beforeMs / 2);
    }
    expect(calls()).toBeLessThan(40);
    monitor[Symbol.dispose]();
  });

  it("does not ask a launcher in a hot loop that says not yet at once", async () => {
    const { monitor, clock, calls } = setUp(Array.from({ length: 100 }, () => notYet));
    monitor.ask(question);
    for (let n = 0; n < 50; n += 1) {
      await until(() => clock.nextTimerMs !== undefined);
      clock.advance(20);
    }
    expect(calls()).toBeLessThan(12);
    monitor[Symbol.dispose]();
  });

  it("asks a thousand launchers one after the other, as an operator that starts has to", async () => {
    const { monitor, clock, calls } = setUp([]);
    for (let n = 0; n < 1000; n += 1) {
      monitor.ask({ ...question, podUID: `p${n}` });
    }
    expect(calls()).toBe(50);
    clock.advance(1_000);
    await until(() => calls() >= 249);
    expect(calls()).toBeLessThanOrEqual(250);
    clock.advance(4_000);
    await until(() => calls() === 1000);
    monitor[Symbol.dispose]();
  });

  it("goes on with a question that is under way, and asks anew for another readiness", async () => {
    const { monitor, calls } = setUp([]);
    monitor.ask(question);
    monitor.ask(question);
    expect(calls()).toBe(1);
    monitor.ask({ ...question, readiness: "True" });
    expect(calls()).toBe(2);
  });

  it("forgets a pod that is gone, whatever its launcher still answers", async () => {
    const gate = Promise.withResolvers<LauncherStatus>();
    const { monitor, woken } = setUp([() => gate.promise]);
    monitor.ask(question);
    monitor.forget("p1");
    gate.resolve(running);
    await gate.promise;
    expect(monitor.facts("p1")).toBeUndefined();
    expect(woken).toEqual([]);
  });

  it("knows the state after a pause without asking again", async () => {
    const { monitor } = setUp([async () => running, async () => ({ ...running, state: "Paused" })]);
    monitor.ask(question);
    await until(() => monitor.facts("p1")?.status);
    await monitor.set("pause", question);
    expect(monitor.facts("p1")?.status?.state).toBe("Paused");
  });

  it("takes in a disk that has grown, and not one that has not", async () => {
    const disks = [{ name: "data", sizeBytes: 1024, readOnly: false }];
    const answer = { ...running, disks };
    const { monitor, woken } = setUp([async () => running, async () => answer, async () => answer]);
    monitor.ask(question);
    await until(() => woken.length === 1);
    await monitor.resizeDisk(question, "data", 1024);
    expect(monitor.facts("p1")?.status?.disks).toEqual(disks);
    expect(woken).toHaveLength(2);
    await expect(monitor.resizeDisk(question, "data", 2048)).rejects.toThrow(/1024 bytes after it was to grow to 2048/);
    expect(woken).toHaveLength(2);
  });

  it("takes in a limit that is as it was to be, and not one that is not", async () => {
    const overlay = { usedBytes: 512, limitBytes: 4096, isFull: false };
    const answer = { ...running, disks: [{ name: "root", sizeBytes: 1024, readOnly: false, overlay }] };
    const { monitor, woken } = setUp([async () => running, async () => answer, async () => answer]);
    monitor.ask(question);
    await until(() => woken.length === 1);
    await monitor.limitOverlay(question, "root", 4096);
    expect(monitor.facts("p1")?.status?.disks).toEqual(answer.disks);
    await expect(monitor.limitOverlay(question, "root", 8192)).rejects.toThrow(/4096 bytes after it was to be 8192/);
  });

  it("takes in a cable that is as it was to be, and not one that is not", async () => {
    const interfaces = [networkInterface("default", { link: "down" as const })];
    const answer = { ...running, interfaces };
    const { monitor, woken } = setUp([async () => running, async () => answer, async () => answer]);
    monitor.ask(question);
    await until(() => woken.length === 1);
    await monitor.setLink(question, "default", "down");
    expect(monitor.facts("p1")?.status?.interfaces).toEqual(interfaces);
    await expect(monitor.setLink(question, "default", "up")).rejects.toThrow(/default is down after it was to be up/);
    expect(woken).toHaveLength(2);
  });
});
