import { writeFileSync } from "node:fs";
import { describe, expect, it, jest } from "@jest/globals";
import { LauncherProcess } from "../../../../launcher/src/commands/testing/launcher-process.ts";
import { RunningAgent } from "../testing/running-agent.ts";

jest.setTimeout(30_000);

const launcherOf = (agent: RunningAgent) =>
  new LauncherProcess().start("powers-off", {
    kvm: { agentSocketPath: agent.socketPath },
    log: { level: "debug" },
  });

describe("a launcher and the agent of its node", () => {
  it("agree on the protocol", async () => {
    await using agent = await new RunningAgent().start();
    writeFileSync(agent.kvmPath, "");
    await using launcher = launcherOf(agent);
    expect(await launcher.exit()).toBe(0);
    expect(agent.lines).toMatchObject([{ reason: "Granted", want: ["kvm"] }]);
  });

  it("meet when the agent comes later than the pod", async () => {
    await using agent = new RunningAgent();
    writeFileSync(agent.kvmPath, "");
    await using launcher = launcherOf(agent);
    await launcher.logged("node agent is away, trying again");
    await agent.start();
    expect(await launcher.exit()).toBe(0);
  });

  it("meet again when the agent restarts in the middle", async () => {
    await using agent = await new RunningAgent().start();
    writeFileSync(agent.kvmPath, "");
    await agent.stop();
    await using launcher = launcherOf(agent);
    await launcher.logged("node agent is away, trying again");
    await agent.start();
    expect(await launcher.exit()).toBe(0);
  });

  it("part with the right reason where the node has no KVM", async () => {
    await using agent = await new RunningAgent().start();
    await using launcher = launcherOf(agent);
    await launcher.exit();
    expect(launcher.termination).toMatchObject({
      reason: "KvmUnavailable",
      message: expect.stringMatching(/the node agent refused \(DeviceMissing\): .*kvm cannot be opened on this node/),
    });
  });
});
