import { beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import { bootGuest } from "./guest.ts";

let lab: LinuxLab;
beforeAll(async () => {
  lab = await openLab();
});

/** A kernel that tells all it does on one console alone; on hvc0 only from when it has a driver for that. */
const loudOn =
  (console: string) =>
  (config: MachineConfig): MachineConfig => ({
    ...config,
    boot: { ...config.boot, commandLine: `console=${console} panic=-1` },
  });

const serialExits = (exits: Readonly<Record<string, number>>) => ({
  data: exits["io:0x3f8"] ?? 0,
  all: Object.entries(exits).reduce((sum, [kind, count]) => (/^io:0x3f[89a-f]$/.test(kind) ? sum + count : sum), 0),
});

describe("a guest that is not told to be quiet", () => {
  it("on its virtio console is used by who does not choose a port, and leaves for nothing it prints", async () => {
    await using guest = await bootGuest(lab, { image: "hello", change: loudOn("hvc0") });
    expect(await guest.console.shell("cat /sys/class/tty/console/active")).toBe("hvc0");
    const { exits } = await guest.launcher.status();
    console.log(`exits of a boot on hvc0: ${JSON.stringify(exits)}; characters: ${guest.console.text.length}`);
    // What looking for the serial port takes, and one more shell that waits there.
    expect(serialExits(exits).all).toBeLessThan(guest.console.text.length / 10);
  });

  it("on its serial port leaves for a small part of what it prints", async () => {
    await using guest = await bootGuest(lab, { image: "hello", change: loudOn("ttyS0") });
    expect(await guest.console.shell("cat /sys/class/tty/console/active")).toBe("ttyS0");
    const { exits } = await guest.launcher.status();
    console.log(`exits of a boot on ttyS0: ${JSON.stringify(exits)}; characters: ${guest.console.text.length}`);
    expect(serialExits(exits).data).toBeLessThan(guest.console.text.length / 2);
  });
});
