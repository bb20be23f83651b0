import { openSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { socketPair } from "../../../../launcher/src/sys/unix-socket.ts";
import type { AskingSocket } from "../testing/asking-socket.ts";
import { RunningAgent, testPod } from "../testing/running-agent.ts";

const launcher = "11111111-0000-4000-8000-000000000001";
const holder = "22222222-0000-4000-8000-000000000002";
const stranger = "33333333-0000-4000-8000-000000000003";

/** Which pod this process passes for. */
let pod = launcher;
let agent: RunningAgent;
let file: OwnedFd;
let path: string;

beforeEach(async () => {
  pod = launcher;
  agent = await new RunningAgent({ pods: { podOf: () => ({ ...testPod, podUid: pod }) } }).start();
  path = join(agent.directory, "disk.img");
  writeFileSync(path, "a disk");
  file = new OwnedFd(openSync(path, "r+"));
});
afterEach(async () => {
  file[Symbol.dispose]();
  await agent[Symbol.asyncDispose]();
});

/** Asks as a pod: the agent looks at each request who it is. */
async function as<T>(podUid: string, action: () => Promise<T>): Promise<T> {
  pod = podUid;
  return await action();
}

async function offer(client: AskingSocket, to: string, fds: readonly number[]) {
  client.send(`${JSON.stringify({ version: 1, offer: { podUid: to, fds } })}\n`);
  return (await client.receive()).answer;
}

async function take(from: string) {
  using client = agent.connect();
  const { answer, fds } = await client.ask([{ kind: "attachment", podUid: from }]);
  const paths = fds.map(({ fd }) => readlinkSync(`/proc/self/fd/${fd}`));
  for (const fd of fds) fd[Symbol.dispose]();
  return { answer, paths };
}

const refused = (code: string) => ({ answer: { ok: false, error: { code } }, paths: [] });
/** How often this process, which is all three pods and the agent, has the file open. */
const timesOpen = () =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  }).length;

describe("what a pod offers to another", () => {
  it("is had by that one, as the same open file, as often as it asks", async () => {
    using holding = agent.connect();
    expect(await as(holder, () => offer(holding, launcher, [file.fd, file.fd]))).toMatchObject({ ok: true });
    expect(timesOpen()).toBe(1);
    for (let i = 0; i < 2; i++)
      expect(await as(launcher, () => take(holder))).toMatchObject({ answer: { ok: true }, paths: [path, path] });
    expect(timesOpen()).toBe(1);
    expect(agent.lines).toContainEqual(expect.objectContaining({ pod: holder, offeredTo: launcher }));
  });

  it("is for nobody else, and nobody else can offer in its place", async () => {
    using holding = agent.connect();
    using impostor = agent.connect();
    await as(holder, () => offer(holding, launcher, [file.fd]));
    expect(await as(stranger, () => take(holder))).toMatchObject(refused("NotOffered"));
    await as(stranger, () => offer(impostor, launcher, [file.fd]));
    holding[Symbol.dispose]();
    await as(launcher, () => untilRefused(holder));
  });

  it("ends with its connection", async () => {
    using holding = agent.connect();
    await as(holder, () => offer(holding, launcher, [file.fd]));
    holding[Symbol.dispose]();
    await as(launcher, () => untilRefused(holder));
  });

  it("is gone after a restart of the agent, until it is offered again", async () => {
    using before = agent.connect();
    await as(holder, () => offer(before, launcher, [file.fd]));
    await agent.stop();
    await before.closed();
    await agent.start();
    expect(await as(launcher, () => take(holder))).toMatchObject(refused("NotOffered"));
    using after = agent.connect();
    await as(holder, () => offer(after, launcher, [file.fd]));
    expect(await as(launcher, () => take(holder))).toMatchObject({ paths: [path] });
  });

  it("can be offered by a later process of the pod before the earlier one's connection is closed", async () => {
    using first = agent.connect();
    using second = agent.connect();
    await as(holder, () => offer(first, launcher, [file.fd]));
    await as(holder, () => offer(second, launcher, [file.fd, file.fd]));
    expect((await as(launcher, () => take(holder))).paths).toHaveLength(2);
    second[Symbol.dispose]();
    await as(launcher, async () => {
      while ((await take(holder)).paths.length !== 1);
    });
  });

  it("is one thing a connection", async () => {
    using holding = agent.connect();
    await as(holder, () => offer(holding, launcher, [file.fd]));
    const again = await as(holder, () => offer(holding, stranger, [file.fd]));
    expect(again).toMatchObject({ ok: false, error: { code: "BadRequest" } });
    expect(await as(stranger, () => take(holder))).toMatchObject(refused("NotOffered"));
  });

  it.each([
    ["a socket", () => socketPair()[0], /only regular files and block devices/],
    ["a directory", () => new OwnedFd(openSync("/", "r")), /only regular files/],
    ["a character device", () => new OwnedFd(openSync("/dev/null", "r")), /only regular files/],
    ["a file that is only looked up", () => new OwnedFd(openSync(path, 0o10000000)), /must be open/],
  ])("is not %s", async (_what, open, says) => {
    using fd = open();
    using holding = agent.connect();
    expect(await as(holder, () => offer(holding, launcher, [fd.fd]))).toMatchObject({
      ok: false,
      error: { code: "BadRequest", message: expect.stringMatching(says) },
    });
    expect(await as(launcher, () => take(holder))).toMatchObject(refused("NotOffered"));
  });

  it("is not what the pod has not open", async () => {
    using holding = agent.connect();
    const answer = await as(holder, () => offer(holding, launcher, [file.fd, 999_999]));
    expect(answer).toMatchObject({ ok: false, error: { code: "BadRequest", message: /999999 cannot be taken/ } });
  });
});

async function untilRefused(from: string): Promise<void> {
  for (;;) {
    const { answer } = await take(from);
    if (!answer.ok) return expect(answer.error.code).toBe("NotOffered");
  }
}
