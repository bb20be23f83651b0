import { describe, expect, it } from "@jest/globals";
import { measureKvm } from "./measure.ts";

describe("measuring /dev/kvm", () => {
  it("runs the loop to its halt and gives a speed", () => {
    const mips = measureKvm();
    expect(Number.isFinite(mips)).toBe(true);
    expect(mips).toBeGreaterThan(0);
  });

  it("says what is wrong with a device that is no KVM", () => {
    expect(() => measureKvm("/dev/null")).toThrow("KVM_CREATE_VM failed with errno 25");
  });
});
