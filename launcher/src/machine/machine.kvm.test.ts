import { describe, expect, it } from "@jest/globals";
import { TestMachine } from "./testing/test-machine.ts";

describe("a machine", () => {
  it("runs its guest until that powers off", async () => {
    await using test = await TestMachine.make();
    expect(test.machine.status()).toMatchObject({ state: "Starting", startedAt: null, reboots: 0, cpus: 1 });
    test.machine.start();
    await test.console.said("READY");
    expect(await test.console.ask("echo typed", "typed\r\n")).toBe("typed\r\n");
    const { milestones, state } = test.machine.status();
    expect(state).toBe("Running");
    expect(Object.keys(milestones)).toEqual(["kvm", "memory", "processors", "devices", "kernel", "running"]);
    test.console.type("poweroff");
    await expect(test.machine.ended).resolves.toMatchObject({ reason: "GuestPowerOff" });
    expect(test.machine.status()).toMatchObject({ state: "Ended", reason: "GuestPowerOff" });
  });
});
