import { describe, expect, it } from "@jest/globals";
import { Registry } from "prom-client";
import { ApiError, TransportError } from "./errors.ts";
import { passMetrics } from "./pass-metrics.ts";
import { runPasses } from "./passes.ts";
import { FakeClock } from "./testing/fake-clock.ts";
import { RecordingLogger } from "./testing/recording-logger.ts";
import { until } from "./testing/until.ts";
import { WorkQueue } from "./work-queue.ts";

const samplesOf = async (registry: Registry) =>
  (await registry.metrics()).split("\n").filter((line) => line.startsWith("typevisor_reconcile_failures_total"));

describe("the passes of a controller", () => {
  it("that fail come again, and count as errors where nobody else was faster", async () => {
    const clock = new FakeClock();
    const queue = new WorkQueue({ name: "q", clock });
    const logger = new RecordingLogger();
    const registry = new Registry();
    const counterOf = passMetrics(registry);
    counterOf("another");
    const failures: unknown[] = [
      new ApiError(409, { reason: "Conflict" }, "PATCH x"),
      new ApiError(404, {}, "PATCH x"),
      new ApiError(409, { reason: "AlreadyExists" }, "POST x"),
      new TransportError("GET x", new Error("reset")),
      new Error("a defect"),
    ];
    const stop = new AbortController();
    let worked = 0;
    const running = runPasses(
      {
        queue,
        workers: 1,
        reconcile: async () => {
          const failure = failures[worked++];
          if (failure !== undefined) throw failure;
        },
        over: "a thing",
        logger,
        onFailed: counterOf("mine"),
      },
      stop.signal,
    );
    queue.add("shop/web");
    await until(() => {
      clock.advance(1_000);
      return worked > failures.length;
    });
    stop.abort();
    await running;
    expect(await samplesOf(registry)).toEqual([
      'typevisor_reconcile_failures_total{controller="another",outcome="conflict"} 0',
      'typevisor_reconcile_failures_total{controller="another",outcome="error"} 0',
      'typevisor_reconcile_failures_total{controller="mine",outcome="conflict"} 2',
      'typevisor_reconcile_failures_total{controller="mine",outcome="error"} 3',
    ]);
    expect(logger.lines.filter(({ level }) => level === "warn")).toHaveLength(3);
  });
});
