import { describe, expect, it } from "@jest/globals";
import { Registry } from "prom-client";
import { FakeClock } from "./testing/fake-clock.ts";
import { until } from "./testing/until.ts";
import { WorkQueue } from "./work-queue.ts";
import { workQueueMetrics } from "./work-queue-metrics.ts";

const noErrors = (key: string, error: unknown) => {
  throw new Error(`${key}: ${error}`);
};

describe("WorkQueue", () => {
  it("works on a key once however often it was added", async () => {
    const queue = new WorkQueue({ name: "q", clock: new FakeClock() });
    const seen: string[] = [];
    queue.add("a");
    queue.add("b");
    queue.add("a");
    const running = queue.run(1, async (key) => void seen.push(key), noErrors);
    await until(() => seen.length === 2);
    queue.close();
    await running;
    expect(seen).toEqual(["a", "b"]);
  });

  it("never works on one key twice at the same time, and comes back to it when it was added meanwhile", async () => {
    const queue = new WorkQueue({ name: "q", clock: new FakeClock() });
    const gates: PromiseWithResolvers<void>[] = [];
    let atOnce = 0;
    let most = 0;
    const running = queue.run(
      4,
      async () => {
        most = Math.max(most, ++atOnce);
        const gate = Promise.withResolvers<void>();
        gates.push(gate);
        await gate.promise;
        atOnce -= 1;
      },
      noErrors,
    );
    queue.add("a");
    await until(() => gates.length === 1);
    queue.add("a");
    queue.add("a");
    gates[0]?.resolve();
    await until(() => gates.length === 2);
    gates[1]?.resolve();
    queue.close();
    await running;
    expect(most).toBe(1);
    expect(gates.length).toBe(2);
  });

  it("works on different keys at the same time, up to its workers", async () => {
    const queue = new WorkQueue({ name: "q", clock: new FakeClock() });
    const gate = Promise.withResolvers<void>();
    let atOnce = 0;
    const running = queue.run(
      2,
      async () => {
        atOnce += 1;
        await gate.promise;
      },
      noErrors,
    );
    for (const key of ["a", "b", "c"]) queue.add(key);
    await until(() => atOnce === 2);
    expect(queue.length).toBe(1);
    gate.resolve();
    await until(() => atOnce === 3);
    queue.close();
    await running;
  });

  it("comes back to a failing key later each time, up to the longest back-off, and forgets after a success", async () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ name: "q", clock, minBackoffMs: 100, maxBackoffMs: 300 });
    let failing = true;
    let calls = 0;
    const running = queue.run(
      1,
      async () => {
        calls += 1;
        if (failing) throw new Error("no");
      },
      () => undefined,
    );
    queue.add("a");
    const delays: (number | undefined)[] = [];
    for (let n = 1; n <= 4; n += 1) {
      await until(() => calls === n && clock.nextTimerMs !== undefined);
      delays.push(clock.nextTimerMs);
      if (n === 4) failing = false;
      clock.advance(clock.nextTimerMs ?? 0);
    }
    await until(() => calls === 5 && queue.failures("a") === 0);
    queue.close();
    await running;
    expect(delays).toEqual([100, 200, 300, 300]);
  });

  it("does not let a stream of events bring a failing key back at once", async () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ name: "q", clock, minBackoffMs: 30_000 });
    let calls = 0;
    const running = queue.run(
      1,
      async () => {
        calls += 1;
        throw new Error("no");
      },
      () => undefined,
    );
    queue.add("a");
    await until(() => clock.nextTimerMs === 30_000);
    queue.add("a");
    expect(queue.length).toBe(0);
    expect(clock.nextTimerMs).toBe(1_000);
    clock.advance(1_000);
    await until(() => calls === 2);
    queue.close();
    await running;
  });

  it("keeps only the earliest of several timers for one key", () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ name: "q", clock });
    queue.addAfter("a", 500);
    queue.addAfter("a", 100);
    queue.addAfter("a", 900);
    expect(clock.nextTimerMs).toBe(100);
    clock.advance(1_000);
    expect(queue.length).toBe(1);
    queue.close();
  });

  it("counts under client-go's metric names", async () => {
    const registry = new Registry();
    const queue = new WorkQueue({ name: "vm", clock: new FakeClock(), metrics: workQueueMetrics(registry)("vm") });
    queue.add("a");
    const text = await registry.metrics();
    expect(text).toContain('workqueue_depth{name="vm"} 1');
    expect(text).toContain('workqueue_adds_total{name="vm"} 1');
    for (const name of [
      "workqueue_queue_duration_seconds",
      "workqueue_work_duration_seconds",
      "workqueue_retries_total",
      "workqueue_unfinished_work_seconds",
      "workqueue_longest_running_processor_seconds",
    ]) {
      expect(text).toContain(name);
    }
  });
});
