import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { HotDisk } from "./hot-disk.ts";

const bootMs = 600_000;

describe("a cloud image without a kernel beside it", () => {
  let lab: LinuxLab;
  let guest: Guest;
  let hotDisk: HotDisk;
  let checksum: string;

  beforeAll(async () => {
    lab = await openLab();
    guest = await bootGuest(lab, { image: "debian-cloud", memoryMiB: 512 });
  }, 1_800_000);
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
  });

  it("boots by UEFI from its own boot loader, kernel and root", async () => {
    expect(await guest.console.shell("ls -d /sys/firmware/efi/efivars")).toBe("/sys/firmware/efi/efivars");
    expect(await guest.console.shell("findmnt -no SOURCE,FSTYPE /")).toBe("/dev/vda1 ext4");
    expect(await guest.console.shell("cat /proc/cmdline")).toMatch(/^BOOT_IMAGE=.*\/boot\/vmlinuz root=UUID=/);
  });

  it("has the tables and devices that the firmware handed on", async () => {
    expect(await guest.console.shell("cat /sys/block/vda/serial")).toBe("root");
    const complaints = await guest.console.shell(
      "dmesg --level=err,crit,alert,emerg | grep -iE 'acpi|pci|efi' || true",
    );
    expect(complaints).toBe("");
  });

  it("takes a disk while it runs", async () => {
    hotDisk = await HotDisk.make(lab, guest);
    await hotDisk.plug();
    await guest.console.shell(`head -c 1M /dev/urandom >${HotDisk.device} && sync`, 120_000);
    checksum = await guest.console.shell(`head -c 1M ${HotDisk.device} | sha256sum`, 120_000);
  });

  it("comes back through the firmware when it reboots, in the same process", async () => {
    guest.console.type("reboot\n");
    await guest.console.see("automatic login", bootMs);
    await guest.console.see(/root@debian:~# /, bootMs);
    expect((await guest.launcher.status()).reboots).toBe(1);
    await lab.run(`kill -0 ${guest.pid}`);
  });

  it("still has the disk that came while it ran, and gives it up", async () => {
    expect(await guest.console.shell(`head -c 1M ${HotDisk.device} | sha256sum`, 120_000)).toBe(checksum);
    await hotDisk.unplug();
  });

  it("powers off", async () => {
    guest.console.type("poweroff\n");
    const end = await guest.ended;
    expect(end.termination?.reason).toBe("GuestPowerOff");
    expect(end.exitCode).toBe(0);
  });
});
