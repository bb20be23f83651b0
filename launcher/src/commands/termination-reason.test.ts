import { describe, expect, it } from "@jest/globals";
import { BootImageError } from "../boot/boot-image-error.ts";
import { KvmUnavailable } from "../kvm/kvm-unavailable.ts";
import { PciSpaceError } from "../pci/pci-root.ts";
import { terminationOf } from "./termination-reason.ts";

describe("the reason why a machine did not start", () => {
  it("is a field of machine.json where that has more disks than fit", () => {
    expect(terminationOf(new PciSpaceError("the PCI bus takes 31 devices"))).toEqual({
      reason: "ConfigInvalid",
      message:
        "machine.json: disks has more entries than the machine has room for (the PCI bus takes 31 devices); remove some",
    });
  });

  it.each([
    ["KvmUnavailable", new KvmUnavailable("no KVM")],
    ["BootImageInvalid", new BootImageError("unreadable", "/vmlinuz", "it is gone", "Give a kernel")],
    ["LauncherError", new TypeError("x is undefined")],
  ])("is %s by the kind of the error", (reason, error) => {
    expect(terminationOf(error)).toEqual({ reason, message: error.message });
  });
});
