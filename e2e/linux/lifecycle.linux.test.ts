import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { LinuxLab } from "../../hack/linux-lab/lab.ts";
import { openLab } from "../../hack/linux-lab/open.ts";
import { bootGuest, type Guest } from "./guest.ts";

let lab: LinuxLab;
beforeAll(async () => {
  lab = await openLab();
});

describe("Debian's kernel with a shell", () => {
  let guest: Guest;
  beforeAll(async () => {
    guest = await bootGuest(lab, { image: "hello", memoryMiB: 256 });
  });
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
  });

  it("answers at the serial console", async () => {
    expect(await guest.console.shell("echo $((6 * 7))")).toBe("42");
  });

  it("shows a later reader what was said before", async () => {
    const reader = await guest.attach("read");
    await reader.see("Typevisor hello guest ready");
    reader.close();
  });

  it("has the memory that it was given", async () => {
    // The kernel's own share is not in MemTotal: the map of physical memory tells all.
    const lines = await guest.console.shell("dmesg | grep 'BIOS-e820.*usable'");
    const bytes = [...lines.matchAll(/\[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] usable/g)]
      .map(([, first, last]) => Number.parseInt(last ?? "", 16) - Number.parseInt(first ?? "", 16) + 1)
      .reduce((sum, size) => sum + size, 0);
    expect(bytes).toBeLessThanOrEqual(256 * 2 ** 20);
    // What is missing lies below 1 MiB, where a PC has its holes.
    expect(bytes).toBeGreaterThan(255 * 2 ** 20);
  });

  it("gets randomness from the host", async () => {
    expect(await guest.console.shell("cat /sys/class/misc/hw_random/rng_current")).toMatch(/^virtio_rng/);
    const bytes = await guest.console.shell("head -c 64 /dev/hwrng | od -An -tx1 | tr -d ' \\n'");
    expect(bytes).toMatch(/^[0-9a-f]{128}$/);
    expect(new Set(bytes.match(/../g)).size).toBeGreaterThan(16);
  });

  it("tells the right time of day", async () => {
    const before = Math.floor(Date.now() / 1000);
    const seconds = Number(await guest.console.shell("date +%s"));
    // The node's own clock may be a little off, as an emulated one is.
    expect(Math.abs(seconds - before)).toBeLessThan(60);
  });

  it("stands still while it is paused, and goes on as if nothing was", async () => {
    await guest.console.shell("(while :; do read t </proc/uptime; echo $t >/tmp/beat; usleep 100000; done &)");
    await guest.launcher.act("pause");
    expect((await guest.launcher.status()).state).toBe("Paused");
    guest.console.type("echo after''-pause\n");
    await expect(guest.console.see("after-pause", 3000)).rejects.toThrow("did not show");
    await guest.launcher.act("resume");
    await guest.console.see("after-pause");
    const first = await guest.console.shell("cat /tmp/beat; sleep 1");
    const second = await guest.console.shell("cat /tmp/beat");
    expect(Number(second.split(" ")[0])).toBeGreaterThan(Number(first.split(" ")[0]));
    expect(await guest.console.shell("dmesg | grep -ciE 'stall|lockup|unstable|hung task' || true")).toBe("0");
  });

  it("comes back after it rebooted itself, in the same process", async () => {
    const before = await guest.launcher.status();
    guest.console.type("reboot -f\n");
    await guest.console.see("Typevisor hello guest ready", 240_000);
    await guest.console.see("hello# ");
    const after = await guest.launcher.status();
    expect(after.reboots).toBe(before.reboots + 1);
    expect(after.state).toBe("Running");
    await lab.run(`kill -0 ${guest.pid}`);
    expect(await guest.console.shell("echo again")).toBe("again");
  });

  it("comes back after the reset button", async () => {
    const before = await guest.launcher.status();
    await guest.launcher.act("reset");
    await guest.console.see("Typevisor hello guest ready", 240_000);
    await guest.console.see("hello# ");
    expect((await guest.launcher.status()).reboots).toBe(before.reboots + 1);
  });

  it("tells of a panic of its kernel", async () => {
    await guest.console.shell("echo 0 >/proc/sys/kernel/panic");
    guest.console.type("echo c >/proc/sysrq-trigger\n");
    await guest.console.see("Kernel panic - not syncing");
    const deadlineMs = Date.now() + 60_000;
    while (!(await guest.launcher.status()).guestPanicked && Date.now() < deadlineMs) {
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    const status = await guest.launcher.status();
    expect(status).toMatchObject({ guestPanicked: true, state: "Running" });
  });

  it("is switched off in time though it does not react to the power button", async () => {
    await guest.launcher.stop(2000);
    const end = await guest.ended;
    expect(end.exitCode).toBe(0);
    expect(end.termination?.reason).toBe("StopTimeout");
  });
});

describe("a guest that ends", () => {
  it("by powering itself off ends the launcher with success", async () => {
    await using guest = await bootGuest(lab, { image: "hello" });
    guest.console.type("poweroff -f\n");
    const end = await guest.ended;
    expect(end.termination?.reason).toBe("GuestPowerOff");
    expect(end.exitCode).toBe(0);
  });

  it("by the power button shuts down by itself", async () => {
    await using guest = await bootGuest(lab, { image: "hello" });
    await guest.launcher.act("power-button");
    await guest.console.see("The system is going down NOW");
    const end = await guest.ended;
    expect(end.termination?.reason).toBe("GuestPowerOff");
    expect(end.exitCode).toBe(0);
  });

  it("by a triple fault is told apart from both", async () => {
    await using guest = await bootGuest(lab, { image: "hello", commandLine: "reboot=triple" });
    guest.console.type("reboot -f\n");
    const end = await guest.ended;
    expect(end.termination?.reason).toBe("GuestTripleFault");
    expect(end.exitCode).toBe(80);
  });
});
