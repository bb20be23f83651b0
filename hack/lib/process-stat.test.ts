import { describe, expect, it } from "@jest/globals";
import { parseProcessStat } from "./process-stat.ts";

describe("what /proc tells of a process", () => {
  it("is read behind its name, whatever that is", () => {
    const line = "2058 (a) b (c) S 175 175 175 0 -1 4194560 459 2167 0 0 8 4 41 19 20 0 1 0 85542 2736128 394 1844\n";
    expect(parseProcessStat(line)).toEqual({ state: "S", cpuTicks: 12, childrenTicks: 60, startTicks: "85542" });
  });
});
