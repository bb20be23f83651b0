import { describe, expect, it } from "@jest/globals";
import { formatBytes } from "../../../../crds/src/quantity.ts";
import { memoryRequestBytes, overheadBytes } from "./overhead.ts";
import { settings, spec } from "./testing/fixtures.ts";

const of = (cores: number, size: string) => ({ ...spec, cpu: { ...spec.cpu, cores }, memory: { size } });

describe("the overhead of a machine", () => {
  it.each([
    [1, "16Mi", "50Mi"],
    [1, "1Gi", "57Mi"],
    [2, "1Gi", "58Mi"],
    [8, "64Gi", "568Mi"],
    [64, "1Ti", "8304Mi"],
  ])("of %i processors and %s is %s", (cores, size, overhead) => {
    expect(formatBytes(overheadBytes(of(cores, size), settings))).toBe(overhead);
  });

  it("is what the pod requests beyond the guest's memory", () => {
    expect(formatBytes(memoryRequestBytes(of(1, "1Gi"), settings))).toBe("1081Mi");
  });
});
