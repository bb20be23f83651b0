import { describe, expect, it } from "@jest/globals";
import { fitForLinuxMips, judge } from "./verdict.ts";

describe("the choice of nodes by /dev/kvm", () => {
  it.each([
    [{ kind: "measured", mips: 1.04 }, "qemu", "at 1.0 million instructions a second, less than the 100"],
    [{ kind: "measured", mips: fitForLinuxMips - 0.1 }, "qemu", "less than"],
    [{ kind: "measured", mips: fitForLinuxMips }, "native", "fit for Linux: this machine is the node"],
    [{ kind: "measured", mips: 2314.7 }, "native", "at 2315 million"],
    [{ kind: "missing" }, "qemu", "no /dev/kvm"],
    [{ kind: "unusable", problem: "KVM_CREATE_VM failed" }, "qemu", "(KVM_CREATE_VM failed)"],
  ] as const)("makes of %j %s nodes and says why", (measurement, flavour, reason) => {
    const verdict = judge(measurement);
    expect(verdict).toMatchObject({ flavour, kvmFit: flavour === "native" });
    expect(verdict.reason).toContain(reason);
  });
});
