import { describe, expect, it } from "@jest/globals";
import { formatCpuFeatures } from "../../../api/cpu-features.ts";
import { openKvm } from "../system.ts";
import { hostFeatures } from "./host-features.ts";

describe("what guests of this host are given", () => {
  it("is the same each time, of x86-64 at least, and short enough for an annotation", () => {
    using kvm = openKvm("/dev/kvm");
    const features = hostFeatures(kvm.fd);
    const text = formatCpuFeatures(features);
    expect(text).toBe(formatCpuFeatures(hostFeatures(kvm.fd)));
    expect(text.length).toBeLessThan(1024);
    // Long mode.
    expect((features.words.get("80000001/0/edx") ?? 0) & (1 << 29)).not.toBe(0);
  });
});
