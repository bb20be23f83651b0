import { execFileSync } from "node:child_process";
import { mkdirSync, openSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { AgentWant } from "../../../../launcher/api/agent.ts";
import { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { PodProcess } from "../testing/pod-process.ts";
import { RunningAgent, testPod } from "../testing/running-agent.ts";
import { PodCgroups } from "./pod-identity.ts";

// Needs root: device nodes are made, and control groups.
/** Nodes are made here: on a file system that container runtimes use, and where "/" is the same for agent and peer. */
const nodes = `/dev/shm/typevisor-agent-${process.pid}`;
let agent: RunningAgent;

beforeEach(async () => {
  mkdirSync(nodes);
  agent = await new RunningAgent().start();
});

afterEach(async () => {
  await agent[Symbol.asyncDispose]();
  rmSync(nodes, { recursive: true });
});

const block = (
  path: string,
  access: { readOnly?: boolean; direct?: boolean; exclusive?: boolean } = {},
): AgentWant => ({
  kind: "block",
  path,
  readOnly: true,
  direct: false,
  ...access,
});

/** A node of the block device `major:minor` in the peer's root, as an image may hold one. */
function nodeInImage(name: string, number: readonly [major: string, minor: string]): string {
  const path = join(nodes, name);
  execFileSync("mknod", ["-m", "0600", path, "b", ...number]);
  return path;
}

/** What the kubelet does for a block volume of `testPod`: a link below volumeDevices. */
function volume(device: string, plugin = "kubernetes.io~local-volume"): void {
  const directory = join(agent.kubeletDir, "pods", testPod.podUid, "volumeDevices", plugin);
  mkdirSync(directory, { recursive: true });
  symlinkSync(device, join(directory, `pv-${basename(device)}`));
}

async function ask(want: readonly AgentWant[]) {
  using client = agent.connect();
  const { answer, fds } = await client.ask(want);
  const seen = fds.map(({ fd }) => ({
    number: statSync(`/proc/self/fd/${fd}`).rdev,
    flags: Number.parseInt(/^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "", 8),
  }));
  for (const fd of fds) fd[Symbol.dispose]();
  return { answer, seen };
}

/** A block device of the test's own: one of the machine may be in use. */
class LoopDevice implements Disposable {
  readonly path: string;
  constructor() {
    const file = join(nodes, "backing");
    writeFileSync(file, new Uint8Array(1 << 20));
    this.path = execFileSync("losetup", ["--find", "--show", file], { encoding: "utf8" }).trim();
  }

  get number(): [string, string] {
    const [major = "", minor = ""] = readFileSync(`/sys/block/${basename(this.path)}/dev`, "utf8")
      .trim()
      .split(":");
    return [major, minor];
  }

  [Symbol.dispose](): void {
    execFileSync("losetup", ["--detach", this.path]);
  }
}

const O_ACCMODE = 0o3;
const O_DIRECT = 0o40000;
/** Block major numbers from 240 are for local use: opening one that nobody serves fails with ENXIO. */
const unserved = ["240", "7"] as const;

describe("a block volume of the pod", () => {
  it.each([
    ["for reading", { readOnly: true, direct: false }, 0, 0],
    ["for reading and writing", { readOnly: false, direct: false }, 2, 0],
    ["past the page cache", { readOnly: true, direct: true }, 0, O_DIRECT],
  ])("is opened %s as asked", async (_how, access, mode, direct) => {
    using device = new LoopDevice();
    volume(device.path);
    const { answer, seen } = await ask([block(nodeInImage("data", device.number), access)]);
    expect(answer.ok).toBe(true);
    expect(seen).toEqual([{ number: statSync(device.path).rdev, flags: expect.any(Number) }]);
    expect((seen[0]?.flags ?? 0) & O_ACCMODE).toBe(mode);
    expect((seen[0]?.flags ?? 0) & O_DIRECT).toBe(direct);
  });

  it("is found whichever plugin serves it, among others whose devices have gone", async () => {
    using device = new LoopDevice();
    volume("/dev/has-gone", "kubernetes.io~csi");
    volume(device.path, "kubernetes.io~csi");
    expect((await ask([block(nodeInImage("data", device.number))])).answer.ok).toBe(true);
  });

  it("is claimed by who writes it, past the page cache too, and then refused to others, on whatever node", async () => {
    using device = new LoopDevice();
    volume(device.path);
    const [mine, theirs] = [nodeInImage("mine", device.number), nodeInImage("theirs", device.number)];
    using client = agent.connect();
    const { answer, fds } = await client.ask([
      block(mine, { readOnly: false }),
      block(mine, { readOnly: false, direct: true }),
    ]);
    expect(answer.ok).toBe(true);
    expect((await ask([block(theirs, { readOnly: false })])).answer).toMatchObject({
      error: { code: "DeviceBusy", message: expect.stringContaining("another virtual machine") },
    });
    for (const fd of fds) fd[Symbol.dispose]();
    expect((await ask([block(theirs, { readOnly: false })])).answer.ok).toBe(true);
  });

  it("is claimed by who reads it alone, too", async () => {
    using device = new LoopDevice();
    volume(device.path);
    const [mine, theirs] = [nodeInImage("mine", device.number), nodeInImage("theirs", device.number)];
    using client = agent.connect();
    const { answer, fds } = await client.ask([block(mine, { readOnly: true, exclusive: true })]);
    expect(answer.ok).toBe(true);
    expect((await ask([block(theirs, { readOnly: true })])).answer.ok).toBe(true);
    for (const want of [block(theirs, { readOnly: false }), block(theirs, { readOnly: true, exclusive: true })])
      expect((await ask([want])).answer).toMatchObject({ error: { code: "DeviceBusy" } });
    for (const fd of fds) fd[Symbol.dispose]();
  });

  it("that cannot be opened is said so, with its item", async () => {
    const node = nodeInImage("dead", unserved);
    volume(node);
    expect((await ask([block(node)])).answer).toMatchObject({
      ok: false,
      error: { code: "DeviceMissing", item: 0, message: `${node} cannot be opened (ENXIO)` },
    });
  });
});

describe("a device node that an image brought", () => {
  it("is not opened, though it is there", async () => {
    // Opening it would fail with another error: the refusal shows that nobody tried.
    const { answer, seen } = await ask([block(nodeInImage("evil", unserved))]);
    expect(answer).toMatchObject({
      ok: false,
      error: { code: "NotAuthorized", message: expect.stringContaining("not a block volume of this pod") },
    });
    expect(seen).toEqual([]);
  });

  it("is not opened for the volumes of another pod", async () => {
    using device = new LoopDevice();
    const directory = join(agent.kubeletDir, "pods", "11111111-2222-3333-4444-555555555555", "volumeDevices", "p");
    mkdirSync(directory, { recursive: true });
    symlinkSync(device.path, join(directory, "pv"));
    expect((await ask([block(nodeInImage("theirs", device.number))])).answer).toMatchObject({
      error: { code: "NotAuthorized" },
    });
  });

  it("is not reached through a symbolic link, at the end of a path or within it", async () => {
    using device = new LoopDevice();
    volume(device.path);
    nodeInImage("data", device.number);
    symlinkSync("data", join(nodes, "link"));
    symlinkSync(nodes, join(nodes, "directory"));
    expect((await ask([block(join(nodes, "link"))])).answer).toMatchObject({ error: { code: "BadRequest" } });
    expect((await ask([block(join(nodes, "directory/data"))])).answer).toMatchObject({
      error: { code: "NotAuthorized", message: expect.stringContaining("symbolic link") },
    });
  });

  it("is not looked at where the file system may be a process of the pod's", async () => {
    using device = new LoopDevice();
    volume(device.path);
    const path = join(agent.directory, "elsewhere");
    execFileSync("mknod", [path, "b", ...device.number]);
    statSync(path);
    expect((await ask([block(path)])).answer).toMatchObject({
      error: { code: "NotAuthorized", message: expect.stringContaining("not on a file system") },
    });
  });

  it("whose volume is a character device stays out of reach", async () => {
    volume("/dev/null");
    expect((await ask([block("/dev/null")])).answer).toMatchObject({ error: { code: "BadRequest" } });
  });
});

describe("a block device that a pod offers to another", () => {
  it("is had by that one only where it is a block volume of the pod that offers it", async () => {
    using device = new LoopDevice();
    using fd = new OwnedFd(openSync(device.path, "r+"));
    const offer = async () => {
      using client = agent.connect();
      client.send(`${JSON.stringify({ version: 1, offer: { podUid: testPod.podUid, fds: [fd.fd] } })}\n`);
      const { answer } = await client.receive();
      return { answer, taken: await ask([{ kind: "attachment", podUid: testPod.podUid }]) };
    };
    expect(await offer()).toMatchObject({
      answer: { ok: false, error: { code: "NotAuthorized" } },
      taken: { answer: { ok: false, error: { code: "NotOffered" } } },
    });
    volume(device.path);
    expect(await offer()).toMatchObject({
      answer: { ok: true },
      taken: { answer: { ok: true }, seen: [{ number: statSync(device.path).rdev }] },
    });
  });
});

describe("a process in the control groups of a pod", () => {
  const groups = (uid: string) => ["kubepods", "burstable", `pod${uid}`, testPod.containerId];
  const agentOfTheNode = () =>
    new RunningAgent({
      pods: new PodCgroups(readFileSync("/proc/self/cgroup", "utf8"), PodProcess.cgroupRoot),
    }).start();

  it("is told by them, and gets what its pod may have", async () => {
    await using nodeAgent = await agentOfTheNode();
    writeFileSync(nodeAgent.kvmPath, "");
    await using process = await PodProcess.start(groups(testPod.podUid));
    const { answer, targets } = await process.ask(nodeAgent.socketPath, [{ kind: "kvm" }]);
    expect(answer.ok).toBe(true);
    expect(targets).toEqual([nodeAgent.kvmPath]);
    expect(nodeAgent.lines).toMatchObject([{ pod: testPod.podUid, container: testPod.containerId }]);
    // Its container restarts: nobody allocates again, and all is as it was.
    await nodeAgent.stop();
    await nodeAgent.start();
    expect((await process.ask(nodeAgent.socketPath, [{ kind: "kvm" }])).answer.ok).toBe(true);
  });

  it("gets nothing where its group only looks like a pod's", async () => {
    await using nodeAgent = await agentOfTheNode();
    writeFileSync(nodeAgent.kvmPath, "");
    await using process = await PodProcess.start(["user.slice", ...groups(testPod.podUid)]);
    const { answer, targets } = await process.ask(nodeAgent.socketPath, [{ kind: "kvm" }]);
    expect(answer).toMatchObject({ ok: false, error: { code: "NotAPod" } });
    expect(targets).toEqual([]);
  });
});
