import { describe, expect, it } from "@jest/globals";
import { TestMachine } from "../machine/testing/test-machine.ts";
import { vcpuMetrics } from "./thread-metrics.ts";

describe("the metrics of a running machine's virtual processors", () => {
  it("are of its threads, and grow while the guest works", async () => {
    await using test = await TestMachine.start({ cpuCount: 2 });
    const source = vcpuMetrics("/proc/self");
    const running = () =>
      [...source()].flatMap(({ samples }) =>
        samples.flatMap(([labels, value]) => (labels["state"] === "running" ? [value] : [])),
      );
    const [before = 0] = running();
    expect(running()).toHaveLength(2);
    for (let i = 0; i < 20; i++) await test.console.ask(`echo ${i}`, `${i}\r\n`);
    expect(running()[0]).toBeGreaterThan(before);
  });
});
