import { describe, expect, it } from "@jest/globals";
import { openFile } from "../sys/file-io.ts";
import { KvmUnavailable } from "./kvm-unavailable.ts";
import { KvmSystem, openKvm } from "./system.ts";

function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof KvmUnavailable) return error.message;
    throw error;
  }
  return "";
}

describe("a host without KVM", () => {
  it("is told what to load and switch on", () => {
    expect(refusal(() => openKvm("/dev/no-kvm"))).toMatch(/^\/dev\/no-kvm cannot be opened: it does not exist. Load/);
  });

  it("is told when the device is another one", () => {
    using null_ = openFile("/dev/null", { write: true });
    expect(refusal(() => new KvmSystem(null_.fd))).toMatch(/Give \/dev\/kvm$/);
  });

  it("is told when the path is no device at all", () => {
    expect(refusal(() => openKvm("/proc"))).toContain("/proc cannot be opened");
  });
});
