import { beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import { LauncherEndedEarly, startGuest } from "./guest.ts";

let lab: LinuxLab;
beforeAll(async () => {
  lab = await openLab();
});

/** How a launcher ends whose machine cannot be made. */
async function refusal(change: (config: MachineConfig) => MachineConfig) {
  try {
    await using guest = await startGuest(lab, { image: "hello", change });
    return await guest.ended;
  } catch (error) {
    if (error instanceof LauncherEndedEarly) return error.end;
    throw error;
  }
}

describe("a machine that cannot be booted", () => {
  it("for want of its kernel says which path is missing", async () => {
    const end = await refusal((config) => ({ ...config, boot: { ...config.boot, kernelPath: "/boot/nothing" } }));
    expect(end.exitCode).toBe(65);
    expect(end.termination).toMatchObject({ reason: "BootImageInvalid" });
    expect(end.termination?.message).toContain("/boot/nothing");
  });

  it("for a kernel that is none says so", async () => {
    const end = await refusal((config) => ({ ...config, boot: { ...config.boot, kernelPath: "/boot/initrd.img" } }));
    expect(end.exitCode).toBe(65);
    expect(end.termination?.reason).toBe("BootImageInvalid");
  });

  it("for an initrd larger than its memory says so", async () => {
    const end = await refusal((config) => ({
      ...config,
      memory: { sizeBytes: 64 * 2 ** 20 },
      boot: { ...config.boot, imageRoot: `${lab.paths.guests}/debian`, initrdPath: "/disk/disk.img" },
    }));
    expect(end.exitCode).toBe(65);
    expect(end.termination?.reason).toBe("BootImageInvalid");
  });
});
