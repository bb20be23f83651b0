import { describe, expect, it } from "@jest/globals";
import { settleConditions } from "./conditions.ts";

const ready = { type: "Ready", status: "True", reason: "AsExpected", message: "fine" } as const;
const stalled = { type: "Stalled", status: "False", reason: "AsExpected", message: "" } as const;
const t0 = Date.parse("2026-01-01T00:00:00Z");

describe("settleConditions", () => {
  it("keeps the order of the drafts, whatever changed", () => {
    const before = settleConditions(undefined, [ready, stalled], 1, t0);
    const after = settleConditions(before, [{ ...ready, status: "False" }, stalled], 2, t0 + 5_000);
    expect(after.map((c) => c.type)).toEqual(["Ready", "Stalled"]);
  });

  it("moves lastTransitionTime only with the status", () => {
    const before = settleConditions(undefined, [ready], 1, t0);
    const reworded = settleConditions(before, [{ ...ready, message: "still fine" }], 2, t0 + 5_000);
    expect(reworded[0]).toMatchObject({ lastTransitionTime: "2026-01-01T00:00:00Z", observedGeneration: 2 });
    const changed = settleConditions(reworded, [{ ...ready, status: "Unknown" }], 2, t0 + 9_000);
    expect(changed[0]?.lastTransitionTime).toBe("2026-01-01T00:00:09Z");
  });
});
