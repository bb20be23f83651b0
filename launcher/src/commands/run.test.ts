import { join } from "node:path";
import { describe, expect, it, jest } from "@jest/globals";
import { exitCodes } from "../../api/control.ts";
import { until } from "../testing/until.ts";
import { LauncherProcess } from "./testing/launcher-process.ts";

// Each test is a process, and the machine may be busy.
jest.setTimeout(30_000);

describe("the launcher process", () => {
  it.each([
    ["powers-off", "GuestPowerOff", "the guest powered itself off"],
    ["triple-faults", "GuestTripleFault", "triple fault at 0x1000"],
  ] as const)("whose guest %s ends with that reason, exit code and last word", async (script, reason, message) => {
    await using launcher = new LauncherProcess().start(script);
    expect(await launcher.exit()).toBe(exitCodes[reason]);
    expect(launcher.termination).toEqual({ version: 1, reason, message });
  });

  it("writes JSON lines only: one for each state, with its reason and whose it is", async () => {
    await using launcher = new LauncherProcess().start("powers-off");
    await launcher.exit();
    expect(launcher.stderr).toBe("");
    expect(launcher.log.map(({ msg }) => msg)).toEqual([
      "launcher starts",
      "machine is Running",
      "machine is Ended",
      "launcher ends",
    ]);
    for (const line of launcher.log)
      expect(line).toMatchObject({ namespace: "shop", name: "web", reason: expect.any(String), level: "info" });
    expect(launcher.stdout).not.toContain("login:");
  });

  it("has two threads for each disk that waits, besides the usual four", async () => {
    const source = { kind: "raw", path: "/disk.img" } as const;
    const disk = (name: string) => ({ name, readOnly: false, queues: 1, source });
    await using launcher = new LauncherProcess().start("obedient", { disks: ["a", "b", "c"].map(disk) });
    await launcher.logged("machine is Running");
    expect(launcher.threads.filter((name) => name === "libuv-worker")).toHaveLength(10);
  });

  it("stops with grace at SIGTERM", async () => {
    await using launcher = new LauncherProcess().start("obedient");
    await launcher.logged("machine is Running");
    launcher.signal("SIGTERM");
    expect(await launcher.exit()).toBe(0);
    expect(launcher.termination?.reason).toBe("Stopped");
  });

  it("switches a stubborn guest off when the grace is over", async () => {
    await using launcher = new LauncherProcess().start("stubborn", { powerOffTimeoutMs: 50 });
    await launcher.logged("machine is Running");
    launcher.signal("SIGTERM");
    await launcher.exit();
    expect(launcher.termination?.reason).toBe("StopTimeout");
  });

  it("does not take a second SIGTERM for impatience, but a second SIGINT", async () => {
    await using launcher = new LauncherProcess().start("stubborn");
    await launcher.logged("machine is Running");
    launcher.signal("SIGTERM");
    await launcher.logged("received SIGTERM");
    launcher.signal("SIGTERM");
    await until(() => launcher.log.filter(({ msg }) => msg === "received SIGTERM").length === 2);
    launcher.signal("SIGINT");
    expect(await launcher.exit()).toBe(0);
    expect(launcher.log.filter(({ reason }) => reason === "StopRequested").map((line) => line["timeoutMs"])).toEqual([
      60_000, 60_000, 0,
    ]);
  });

  it("stops machine and process at a defect, and says so", async () => {
    await using launcher = new LauncherProcess().start("defect");
    expect(await launcher.exit()).toBe(exitCodes.LauncherError);
    expect(launcher.termination).toMatchObject({
      reason: "LauncherError",
      message: expect.stringContaining("index out of range"),
    });
    expect(launcher.log.map(({ msg }) => msg)).toContain("machine is Ended");
    expect(launcher.log.find(({ msg }) => msg === "launcher failed")).toMatchObject({
      stack: expect.stringContaining("scripted-launcher.ts"),
    });
  });

  it("ends even when the machine cannot be stopped, and has said why before", async () => {
    await using launcher = new LauncherProcess().start("stuck-defect");
    expect(await launcher.exit()).toBe("SIGKILL");
    expect(launcher.termination?.reason).toBe("LauncherError");
  });

  it("names the field of a listener that cannot be opened", async () => {
    const directory = "/proc/nowhere";
    await using launcher = new LauncherProcess().start("obedient", {
      control: { socketPath: join(directory, "control.sock") },
    });
    expect(await launcher.exit()).toBe(exitCodes.ConfigInvalid);
    expect(launcher.termination?.message).toMatch(/^machine\.json: control\.socketPath cannot be used \(.*nowhere/);
  });

  it("leaves the reason for a wrong machine.json where that asks for it", async () => {
    await using launcher = new LauncherProcess();
    const terminationMessagePath = join(launcher.directory, "termination");
    launcher.start("obedient", JSON.stringify({ version: 1, terminationMessagePath }));
    expect(await launcher.exit()).toBe(exitCodes.ConfigInvalid);
    expect(launcher.termination).toMatchObject({
      reason: "ConfigInvalid",
      message: expect.stringMatching(/^machine\.json: [a-z]+ is missing; give /),
    });
  });

  it("waits for the node agent until it is told to stop", async () => {
    await using launcher = new LauncherProcess();
    launcher.start("obedient", {
      kvm: { agentSocketPath: join(launcher.directory, "agent.sock") },
      log: { level: "debug" },
    });
    await launcher.logged("node agent is away, trying again");
    launcher.signal("SIGTERM");
    expect(await launcher.exit()).toBe(0);
    expect(launcher.termination?.message).toBe("asked to stop before the machine ran");
  });

  it("says which device is missing", async () => {
    await using launcher = new LauncherProcess().start("obedient", { kvm: { devicePath: "/dev/no-kvm" } });
    expect(await launcher.exit()).toBe(exitCodes.KvmUnavailable);
    expect(launcher.termination?.message).toMatch(/\/dev\/no-kvm cannot be opened/);
  });

  it("calls what it does not know a defect", async () => {
    await using launcher = new LauncherProcess().start("cannot-be-assembled");
    expect(await launcher.exit()).toBe(exitCodes.LauncherError);
    expect(launcher.termination?.message).toBe("no such thing");
  });
});
