import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import type { MachineConfig } from "../../launcher/api/machine-config.ts";
import { FioDisks } from "./fio-disks.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { HotDisk } from "./hot-disk.ts";

const bootMs = 240_000;

describe("a whole Debian on an image's disk", () => {
  let lab: LinuxLab;
  let guest: Guest;
  let checksum: string;
  let fioDisks: FioDisks;
  const baseDisk = () => `${lab.paths.guests}/debian/disk/disk.img`;
  let baseBefore: string;

  beforeAll(async () => {
    lab = await openLab();
    baseBefore = await lab.run(`sha256sum <${baseDisk()}`);
    fioDisks = await FioDisks.make(lab);
    const change = (config: MachineConfig) => ({ ...config, disks: [...config.disks, ...fioDisks.disks] });
    guest = await bootGuest(lab, { image: "debian", cpus: 2, memoryMiB: 512, change });
  }, 900_000);
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    await fioDisks?.[Symbol.asyncDispose]();
  });

  it("has its root on the virtio disk, which says its name", async () => {
    expect(await guest.console.shell("findmnt -no SOURCE,FSTYPE /")).toBe("/dev/vda ext4");
    expect(await guest.console.shell("cat /sys/block/vda/serial")).toBe("root");
  });

  it("has come up whole", async () => {
    await guest.console.shell("systemctl is-system-running --wait", bootMs);
    expect(await guest.console.shell("systemctl --failed --no-legend --no-pager")).toBe("");
  });

  it("reads back what it wrote and synced", async () => {
    await guest.console.shell("head -c 24M /dev/urandom >/root/data && sync", 120_000);
    checksum = await guest.console.shell("sha256sum </root/data", 120_000);
    await guest.console.shell("echo 3 >/proc/sys/vm/drop_caches");
    expect(await guest.console.shell("sha256sum </root/data", 120_000)).toBe(checksum);
  });

  it("reads back what fio wrote to a disk of each kind, sector by sector", async () => {
    expect(await fioDisks.writeAndVerify(guest)).toBe("");
  });

  it("discards what it deleted", async () => {
    await guest.console.shell("head -c 16M /dev/urandom >/root/gone && sync && rm /root/gone && sync", 120_000);
    expect(await guest.console.shell("fstrim -v /", 120_000)).toMatch(/trimmed/);
  });

  it("takes a disk while it runs, gives it up, and finds what it wrote when it comes again", async () => {
    const disk = await HotDisk.make(lab, guest);
    const { console } = guest;
    const disksBefore = await console.shell("ls /sys/block | grep ^vd");
    await disk.plug();
    await console.shell(`mkfs.ext4 -q ${HotDisk.device} && mount ${HotDisk.device} /mnt`, 120_000);
    await console.shell("head -c 8M /dev/urandom >/mnt/data && sync", 120_000);
    const written = await console.shell("sha256sum </mnt/data", 120_000);
    await console.shell("umount /mnt");
    await disk.unplug();
    expect(await console.shell("ls /sys/block | grep ^vd")).toBe(disksBefore);
    await disk.plug();
    await console.shell(`mount ${HotDisk.device} /mnt`, 120_000);
    expect(await console.shell("sha256sum </mnt/data", 120_000)).toBe(written);
    await console.shell("umount /mnt");
    expect(await console.shell("dmesg --level=err,crit,alert,emerg | grep -iE 'acpi|pci' || true")).toBe("");
    // It stays for the reboot.
    expect(await disk.state()).toBe("Attached");
  });

  it("finds it again after a reboot, which stays in the process", async () => {
    guest.console.type("reboot\n");
    await guest.console.see("automatic login", bootMs);
    await guest.console.see(/root@debian:~# /, bootMs);
    expect((await guest.launcher.status()).reboots).toBe(1);
    await lab.run(`kill -0 ${guest.pid}`);
    expect(await guest.console.shell("sha256sum </root/data", 120_000)).toBe(checksum);
    expect(await fioDisks.verify(guest)).toBe("");
    expect(await guest.console.shell(`blkid -o value -s TYPE ${HotDisk.device}`)).toBe("ext4");
    expect(await guest.console.shell("dmesg | grep -ciE 'EXT4-fs (error|warning)|recover' || true")).toBe("0");
  });

  it("shuts down when its power button is pressed", async () => {
    await guest.launcher.act("power-button");
    await guest.console.see("Power down", 120_000);
    const end = await guest.ended;
    expect(end.termination?.reason).toBe("GuestPowerOff");
    expect(end.exitCode).toBe(0);
  });

  it("has never written to the image", async () => {
    expect(await lab.run(`sha256sum <${baseDisk()}`)).toBe(baseBefore);
  });
});
