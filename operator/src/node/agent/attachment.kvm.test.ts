import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import { LauncherClient } from "../../../../e2e/linux/launcher-client.ts";
import { testMachineConfig } from "../../../../launcher/src/machine/testing/test-machine.ts";
import { until } from "../../runtime/testing/until.ts";
import { RunningAgent, testPod } from "../testing/running-agent.ts";

jest.setTimeout(120_000);

const root = join(import.meta.dirname, "../../../..");
const MIB = 2 ** 20;

/** The launcher's program with some command. */
class LauncherProgram implements AsyncDisposable {
  output = "";
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;

  constructor(...args: readonly string[]) {
    this.#child = spawn(join(root, "node_modules/.bin/node"), [join(root, "launcher/src/main.ts"), ...args]);
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    this.ended = once(this.#child, "exit").then(([code]) => code);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.ended;
  }
}

describe("a machine, a holder and the agent between them", () => {
  let agent: RunningAgent;
  let claim: string;
  let api: LauncherClient;
  let launcher: LauncherProgram;

  beforeEach(async () => {
    agent = await new RunningAgent({
      paths: {
        kubeletDir: "/nonexistent",
        kvmPath: "/dev/kvm",
        userfaultfdPath: "/nonexistent",
        vhostNetPath: "/nonexistent",
      },
    }).start();
    claim = join(agent.directory, "claim");
    mkdirSync(claim);
    const config = { ...testMachineConfig({}, agent.directory), kvm: { agentSocketPath: agent.socketPath } };
    const configPath = join(agent.directory, "machine.json");
    writeFileSync(configPath, JSON.stringify(config));
    launcher = new LauncherProgram("run", configPath);
    await until(() => existsSync(config.control.socketPath) || launcher.output.includes('"launcher ends"'));
    api = new LauncherClient(config.control.socketPath);
    await api.reached(["Running"]);
  });
  afterEach(async () => {
    await launcher[Symbol.asyncDispose]();
    await agent[Symbol.asyncDispose]();
  });

  const holder = () =>
    new LauncherProgram(
      ...["hold", "--disk", "data", "--to", testPod.podUid, "--agent", agent.socketPath],
      ...["--directory", claim, "--size-bytes", String(MIB)],
    );
  const disk = {
    name: "data",
    readOnly: false,
    queues: 1,
    source: { kind: "attachment", podUid: testPod.podUid },
  } as const;
  const ask = async (command: string, answer: RegExp) => {
    const console = await api.console({ access: "write", history: false });
    let text = "";
    console.setEncoding("utf8").on("data", (more: string) => {
      text += more;
    });
    console.write(`${command}\n`);
    await until(() => answer.test(text));
    console.destroy();
  };

  it("give the guest a disk, which it writes to after holder and agent have gone, and gives back", async () => {
    await expect(api.attachDisk(disk)).rejects.toMatchObject({ code: "NotReady" });
    await using holding = holder();
    await until(() => holding.output.includes('"Offered"'));
    const { disks } = await api.attachDisk(disk);
    expect(disks).toMatchObject([{ name: "data", sizeBytes: MIB, state: "Attaching" }]);
    await ask("blkid 0", /blkid status 0 name data sectors 2048/);
    await agent.stop();
    holding.kill("SIGTERM");
    await until(() => holding.output.includes('"DiskInUse"'));
    await ask("blkwrite 0 1 7", /blkwrite status 0/);
    await ask("blkflush 0", /blkflush status 0/);
    expect(readFileSync(join(claim, "disk.img")).readBigUInt64LE(512)).toBe(7n);
    await api.detachDisk("data");
    await until(async () => (await api.status()).disks?.length === 0);
    expect(await holding.ended).toBe(0);
  });
});
