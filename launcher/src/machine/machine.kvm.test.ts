import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "@jest/globals";
import type { MachineState } from "../../api/control.ts";
import { PciSpaceError } from "../pci/pci-root.ts";
import { IllegalTransition, PauseAborted } from "./control-surface.ts";
import { slowClock } from "./testing/slow-clock.ts";
import { TestMachine } from "./testing/test-machine.ts";

describe("a machine", () => {
  it("runs its guest until that powers off", async () => {
    await using test = await TestMachine.make();
    expect(test.machine.status()).toMatchObject({ state: "Starting", startedAt: null, reboots: 0, cpus: 1 });
    test.machine.start();
    await test.console.said("READY pvh\r\n");
    expect(await test.console.ask("echo typed", "typed\r\n")).toBe("typed\r\n");
    const { milestones, state } = test.machine.status();
    expect(state).toBe("Running");
    expect(Object.keys(milestones)).toEqual(["kvm", "memory", "processors", "devices", "kernel", "running"]);
    test.console.type("poweroff");
    await expect(test.machine.ended).resolves.toMatchObject({ reason: "GuestPowerOff" });
    expect(test.machine.status()).toMatchObject({ state: "Ended", reason: "GuestPowerOff" });
  });

  it("tells of each change of state, and counts exits", async () => {
    await using test = await TestMachine.make();
    const states: MachineState[] = [];
    test.machine.onState((state) => states.push(state));
    test.machine.start();
    await test.console.said("READY pvh\r\n");
    await test.machine.pause();
    await test.machine.pause();
    test.machine.resume();
    await test.machine.stop(0);
    expect(states).toEqual(["Running", "Paused", "Running", "Stopping", "Ended"]);
    expect(test.machine.status().exits).toMatchObject({ "io:0x3f8": expect.any(Number) });
  });

  describe("that is paused", () => {
    it("keeps what is typed, and answers when it is resumed", async () => {
      await using test = await TestMachine.start();
      await test.machine.pause();
      test.console.text = "";
      test.console.type("echo later");
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(test.console.text).toBe("");
      test.machine.resume();
      await test.console.said("later\r\n");
    });

    it("is paused again and again under spinning processors", async () => {
      await using test = await TestMachine.start({ cpuCount: 2 });
      await test.console.ask("cpus", "cpus 2\r\n");
      await test.console.ask("spin", "spinning\r\n");
      for (let round = 0; round < 30; round++) {
        await test.machine.pause();
        expect(test.machine.status().state).toBe("Paused");
        test.machine.resume();
      }
    });

    it("is not, when it is resumed meanwhile", async () => {
      await using test = await TestMachine.start();
      await test.console.ask("spin", "spinning\r\n");
      const paused = test.machine.pause();
      test.machine.resume();
      await expect(paused).rejects.toThrow(PauseAborted);
      expect(test.machine.status().state).toBe("Running");
      await test.machine.pause();
    });

    it("is not, when it ends meanwhile", async () => {
      await using test = await TestMachine.start();
      const paused = test.machine.pause();
      const stopped = test.machine.stop(0);
      await expect(paused).rejects.toThrow(/aborted|before it was paused|Ended|Stopping/);
      await stopped;
    });

    it("cannot be before it runs or after its end", async () => {
      await using test = await TestMachine.make();
      await expect(test.machine.pause()).rejects.toThrow(IllegalTransition);
      expect(() => test.machine.resume()).toThrow(IllegalTransition);
      await expect(test.machine.reset()).rejects.toThrow(IllegalTransition);
      await test.machine.stop(0);
      await expect(test.machine.pause()).rejects.toThrow(IllegalTransition);
      expect(() => test.machine.start()).toThrow(IllegalTransition);
    });
  });

  describe("that is reset", () => {
    it("boots again in the same process, with empty memory, when the guest asks", async () => {
      await using test = await TestMachine.start({ cpuCount: 2 });
      await test.console.ask("cpus", "cpus 2\r\n");
      await test.console.ask("write 0x400000 8 0x1234", "write done\r\n");
      for (let reboots = 1; reboots <= 3; reboots++) {
        await test.console.ask("reboot", "READY pvh\r\n");
        expect(test.machine.status()).toMatchObject({ state: "Running", reboots });
      }
      expect(await test.console.ask("mem 0x400000", "\r\n")).toBe("mem 0x400000: 0x0\r\n");
      expect(await test.console.ask("cpus", "\r\n")).toBe("cpus 2\r\n");
    });

    it("boots again when the operator asks, whatever the guest is doing", async () => {
      await using test = await TestMachine.start({ cpuCount: 2 });
      await test.console.ask("cpus", "cpus 2\r\n");
      await test.console.ask("spin", "spinning\r\n");
      test.console.text = "";
      await Promise.all([test.machine.reset(), test.machine.reset()]);
      await test.console.said("READY pvh\r\n");
      expect(test.machine.status().reboots).toBe(1);
    });

    it("stays paused when it was", async () => {
      await using test = await TestMachine.start();
      await test.machine.pause();
      test.console.text = "";
      await test.machine.reset();
      expect(test.machine.status().state).toBe("Paused");
      expect(test.console.text).toBe("");
      test.machine.resume();
      await test.console.said("READY pvh\r\n");
    });

    it("by itself, over and over, is ended", async () => {
      using _quick = slowClock(100);
      await using test = await TestMachine.make({ commands: "reboot" });
      test.machine.start();
      await expect(test.machine.ended).resolves.toMatchObject({ reason: "ResetStorm" });
      expect(test.machine.status().reboots).toBeGreaterThanOrEqual(19);
    });

    it("and stopped at once, is stopped", async () => {
      await using test = await TestMachine.start();
      const reset = test.machine.reset().catch((error: unknown) => error);
      await test.machine.stop(0);
      await reset;
      await expect(test.machine.ended).resolves.toMatchObject({ reason: "StopTimeout" });
    });
  });

  describe("that is stopped", () => {
    it("is switched off when the guest does not react in time", async () => {
      await using test = await TestMachine.start({ commands: "deaf" });
      const stopped = test.machine.stop(100);
      expect(test.machine.status()).toMatchObject({ state: "Stopping", reason: "StopRequested" });
      await stopped;
      await expect(test.machine.ended).resolves.toMatchObject({ reason: "StopTimeout" });
    });

    it("is Stopped when the guest heeds its power button in time", async () => {
      await using test = await TestMachine.start();
      await test.machine.stop(60_000);
      await expect(test.machine.ended).resolves.toMatchObject({ reason: "Stopped" });
    });

    it("can be stopped sooner, but not later", async () => {
      await using test = await TestMachine.start({ commands: "deaf" });
      const patient = test.machine.stop(60_000);
      const impatient = test.machine.stop(50);
      void test.machine.stop(60_000);
      await Promise.all([patient, impatient]);
    });

    it("sees the power button, even when it was paused", async () => {
      await using test = await TestMachine.start();
      await test.machine.pause();
      await test.machine.stop(60_000);
      expect(test.console.text).toContain("power button");
      await expect(test.machine.ended).resolves.toMatchObject({ reason: "Stopped" });
    });

    it("ends at once before it was started", async () => {
      await using test = await TestMachine.make();
      await test.machine.stop(60_000);
      await expect(test.machine.ended).resolves.toMatchObject({ reason: "Stopped" });
    });
  });

  it("ends with a triple fault", async () => {
    await using test = await TestMachine.make({ commands: "triplefault" });
    test.machine.start();
    await expect(test.machine.ended).resolves.toMatchObject({ reason: "GuestTripleFault" });
  });

  it("knows of a panic until the next reset", async () => {
    await using test = await TestMachine.start();
    await test.console.ask("panic", "panicked\r\n");
    expect(test.machine.status().guestPanicked).toBe(true);
    expect(test.log).toContainEqual({
      message: "guest panicked",
      fields: expect.objectContaining({ kind: "panicked" }),
    });
    await test.machine.reset();
    expect(test.machine.status().guestPanicked).toBe(false);
  });

  it("shows its PCI functions to the guest", async () => {
    await using test = await TestMachine.start();
    const list = await test.console.ask("pci", "pci done\r\n");
    expect(list.split("\r\n").slice(0, -1)).toEqual([
      "pci 0 8086:d57 class 60000",
      "pci 1 1af4:1044 class ff00",
      "pci 2 1af4:1043 class 78000",
      "pci done",
    ]);
  });

  it("has room for 29 disks, and says so of one more", async () => {
    const directory = mkdtempSync(join(tmpdir(), "many-disks-"));
    const disks = Array.from({ length: 30 }, (_, i) => {
      const source = { kind: "empty" as const, path: join(directory, `${i}.img`), sizeBytes: 4096 };
      return { name: `disk-${i}`, readOnly: false, queues: 1, source };
    });
    try {
      await expect(TestMachine.make({ disks })).rejects.toThrow(PciSpaceError);
      await using test = await TestMachine.start({ disks: disks.slice(1) });
      const list = await test.console.ask("pci", "pci done\r\n");
      expect(list.match(/1af4:1042/g)).toHaveLength(29);
      expect(await test.console.ask("blkid 28", "\r\n")).toBe("blkid status 0 name disk-29 sectors 8\r\n");
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  describe("with a virtio console", () => {
    it("prints what the guest sends there, and only there", async () => {
      await using test = await TestMachine.start();
      expect(await test.console.ask("hvcprint 500", "hvc printed")).not.toContain("a line");
      await test.console.said("hvc printed 500\r\n");
      expect(test.virtioConsole.text).toBe("a line on the virtio console\r\n".repeat(500));
    });

    it("gives the guest what is typed there, also before it was ready", async () => {
      await using test = await TestMachine.start();
      test.virtioConsole.type("first");
      await test.console.ask("hvcread", "hvc read first\n");
      await test.console.ask("hvcread", "hvc waits\r\n");
      test.virtioConsole.type("second");
      await test.console.said("hvc read second\n");
    });

    it("is paused, reset and stopped while the guest floods that", async () => {
      await using test = await TestMachine.start();
      await test.console.ask("hvcprint 0", "hvc prints\r\n");
      await test.virtioConsole.until(() => test.virtioConsole.text.length > 10_000, "a flood");
      await test.machine.pause();
      const paused = test.virtioConsole.text.length;
      test.machine.resume();
      await test.virtioConsole.until(() => test.virtioConsole.text.length > paused, "more of the flood");
      test.console.text = "";
      await test.machine.reset();
      await test.console.said("READY pvh\r\n");
      await test.console.ask("hvcprint 0", "hvc prints\r\n");
      await test.machine.stop(0);
    });
  });

  it("outlives a guest that writes garbage everywhere", async () => {
    await using test = await TestMachine.start();
    for (const seed of [1, 2, 3]) await test.console.ask(`garbage 3000 ${seed}`, "garbage done\r\n");
    expect(await test.console.ask("echo alive", "alive\r\n")).toContain("alive\r\n");
    expect(test.machine.status().state).toBe("Running");
  });

  it("is paused and stopped while all its processors flood it with exits", async () => {
    await using test = await TestMachine.start({ cpuCount: 4 });
    await test.console.ask("cpus", "cpus 4\r\n");
    await test.console.ask("floodall", "all flooding\r\n");
    await test.machine.pause();
    const { exits } = test.machine.status();
    await new Promise((resolve) => setImmediate(resolve));
    expect(test.machine.status().exits).toEqual(exits);
    test.machine.resume();
    await test.machine.stop(20);
  });
});
