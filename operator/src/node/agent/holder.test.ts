import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, jest } from "@jest/globals";
import type { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { lockFile } from "../../../../launcher/src/sys/file-lock.ts";
import { until } from "../../runtime/testing/until.ts";
import { RunningAgent, testPod } from "../testing/running-agent.ts";

jest.setTimeout(60_000);

const root = join(import.meta.dirname, "../../../..");
const SIZE_BYTES = 1 << 20;

/** `launcher hold`, whose pod passes for the same as the one that takes. */
class HolderProcess implements AsyncDisposable {
  output = "";
  readonly #child: ChildProcess;
  readonly ended: Promise<number | null>;

  constructor(agent: RunningAgent, ...args: readonly string[]) {
    const command = [join(root, "launcher/src/main.ts"), "hold", "--disk", "data", "--to", testPod.podUid];
    this.#child = spawn(join(root, "node_modules/.bin/node"), [...command, "--agent", agent.socketPath, ...args]);
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    this.ended = once(this.#child, "exit").then(([code]) => code);
  }

  async said(text: string, times = 1): Promise<void> {
    await until(() => this.output.split(text).length > times);
  }

  terminate(): void {
    this.#child.kill("SIGTERM");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }
}

let agent: RunningAgent;
let directory: string;
const inDirectory = () => ["--directory", directory, "--size-bytes", String(SIZE_BYTES)];

beforeEach(async () => {
  agent = await new RunningAgent().start();
  directory = join(agent.directory, "claim");
  mkdirSync(directory);
});
afterEach(() => agent[Symbol.asyncDispose]());

async function take(): Promise<OwnedFd | undefined> {
  using client = agent.connect();
  const { fds } = await client.ask([{ kind: "attachment", podUid: testPod.podUid }]);
  return fds[0];
}

describe("a holder", () => {
  it("makes the disk of a claim, and offers it, locked for whoever takes it", async () => {
    await using holder = new HolderProcess(agent, ...inDirectory());
    await holder.said('"Offered"');
    using disk = await take();
    if (!disk) throw new Error("nothing was offered");
    expect(statSync(`/proc/self/fd/${disk.fd}`)).toMatchObject({ size: SIZE_BYTES });
    expect(readdirSync(directory)).toEqual(["disk.img"]);
    expect(lockFile(disk.fd, "exclusive")).toBe("locked");
  });

  it("offers again when the agent has restarted", async () => {
    await using holder = new HolderProcess(agent, ...inDirectory());
    await holder.said('"Offered"');
    await agent.stop();
    await agent.start();
    await holder.said('"Offered"', 2);
    using disk = await take();
    expect(disk).toBeDefined();
  });

  it("ends at once when it is told to and nobody has the disk", async () => {
    await using holder = new HolderProcess(agent, ...inDirectory());
    await holder.said('"Offered"');
    holder.terminate();
    expect(await holder.ended).toBe(0);
  });

  it("outlasts who has the disk, so that the volume stays on the node", async () => {
    await using holder = new HolderProcess(agent, ...inDirectory());
    await holder.said('"Offered"');
    const disk = await take();
    holder.terminate();
    await holder.said('"DiskInUse"');
    expect(await take()).toBeUndefined();
    disk?.[Symbol.dispose]();
    expect(await holder.ended).toBe(0);
  });

  it("takes the place of another one when that lets go, and ends when it is told to before", async () => {
    await using first = new HolderProcess(agent, ...inDirectory());
    await first.said('"Offered"');
    await using second = new HolderProcess(agent, ...inDirectory());
    await using third = new HolderProcess(agent, ...inDirectory(), "--read-only");
    await second.said('"DiskInUse"');
    await third.said('"DiskInUse"');
    third.terminate();
    expect(await third.ended).toBe(0);
    first.terminate();
    await second.said('"Offered"');
  });

  it("says what is wrong with the disk, and ends with its code", async () => {
    writeFileSync(join(directory, "disk.img"), "");
    rmSync(directory, { recursive: true });
    await using holder = new HolderProcess(agent, ...inDirectory());
    expect(await holder.ended).toBe(66);
    expect(holder.output).toMatch(/disk data: .*claim/);
  });

  it.each([
    [["--size-bytes", "1000"], /multiple of 512/],
    [["--device", "/dev/x", "--directory", "/x"], /exactly one of/],
    [[], /exactly one of/],
    [["--directory", "/x", "--size-bytes", "512", "--to", "me"], /UID of a pod/],
  ])("refuses the options %j", async (args, says) => {
    const base = args[0] === "--size-bytes" ? ["--directory", "/x"] : [];
    await using holder = new HolderProcess(agent, ...base, ...args);
    expect(await holder.ended).toBe(2);
    expect(holder.output).toMatch(says);
  });
});
