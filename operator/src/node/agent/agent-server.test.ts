import { readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { AGENT_LINE_MAX_BYTES } from "../../../../launcher/api/agent.ts";
import { RunningAgent, testPod } from "../testing/running-agent.ts";
import { PodCgroups } from "./pod-identity.ts";

const kvm = { kind: "kvm" } as const;
const device = (path: string) => ({ kind: "block", path, readOnly: true, direct: false }) as const;
const openFds = () => readdirSync("/proc/self/fd").length;

describe("the node agent", () => {
  it("grants what was asked, in order, and keeps nothing open", async () => {
    await using agent = await new RunningAgent().start();
    writeFileSync(agent.kvmPath, "the device");
    using client = agent.connect();
    await client.ask([]);
    const before = openFds();
    const { answer, fds } = await client.ask([kvm, kvm]);
    expect(answer).toEqual({ version: 1, ok: true, agentVersion: "test" });
    expect(fds.map(({ fd }) => readlinkSync(`/proc/self/fd/${fd}`))).toEqual([agent.kvmPath, agent.kvmPath]);
    for (const fd of fds) fd[Symbol.dispose]();
    expect(openFds()).toBe(before);
  });

  it("sees a device that came after it started, and says what to check while it is missing", async () => {
    await using agent = await new RunningAgent().start();
    using client = agent.connect();
    expect((await client.ask([kvm])).answer).toMatchObject({
      ok: false,
      error: { code: "DeviceMissing", item: 0, message: expect.stringMatching(/kvm cannot be opened .*kvm is loaded/) },
    });
    writeFileSync(agent.kvmPath, "");
    const { answer, fds } = await client.ask([kvm]);
    expect(answer.ok).toBe(true);
    for (const fd of fds) fd[Symbol.dispose]();
  });

  it("grants all or nothing", async () => {
    await using agent = await new RunningAgent().start();
    writeFileSync(agent.kvmPath, "");
    using client = agent.connect();
    await client.ask([]);
    const before = openFds();
    const { answer, fds } = await client.ask([kvm, { kind: "userfaultfd" }]);
    expect(answer).toMatchObject({ ok: false, error: { code: "DeviceMissing", item: 1 } });
    expect(fds).toEqual([]);
    expect(openFds()).toBe(before);
  });

  it("refuses a process that is in no pod, whatever it asks", async () => {
    await using agent = await new RunningAgent({ pods: new PodCgroups("0::/\n") }).start();
    writeFileSync(agent.kvmPath, "");
    using client = agent.connect();
    const { answer, fds } = await client.ask([kvm]);
    expect(answer).toMatchObject({ ok: false, error: { code: "NotAPod" } });
    expect(fds).toEqual([]);
    client.send("garbage\n");
    expect((await client.receive()).answer).toMatchObject({ ok: false, error: { code: "NotAPod" } });
  });

  it("tells the pod by the cgroups of the very process that connected", async () => {
    const read: string[] = [];
    const podOf = (cgroups: string) => {
      read.push(cgroups);
      return testPod;
    };
    await using agent = await new RunningAgent({ pods: { podOf } }).start();
    using client = agent.connect();
    await client.ask([]);
    expect(new Set(read)).toEqual(new Set([readFileSync("/proc/self/cgroup", "utf8")]));
  });

  it("writes who was given what", async () => {
    await using agent = await new RunningAgent().start();
    writeFileSync(agent.kvmPath, "");
    using client = agent.connect();
    for (const fd of (await client.ask([kvm])).fds) fd[Symbol.dispose]();
    expect(agent.lines).toMatchObject([
      {
        message: "descriptors granted",
        reason: "Granted",
        pod: testPod.podUid,
        container: testPod.containerId,
        pid: process.pid,
        want: ["kvm"],
      },
    ]);
    expect(await agent.registry.getSingleMetric("typevisor_agent_descriptors_granted_total")?.get()).toMatchObject({
      values: [{ value: 1, labels: { kind: "kvm" } }],
    });
  });

  it("answers as before after a restart, at the same directory", async () => {
    await using agent = await new RunningAgent().start();
    writeFileSync(agent.kvmPath, "");
    const directory = statSync(agent.agentDir).ino;
    using before = agent.connect();
    await before.ask([]);
    await agent.stop();
    await before.closed();
    expect(() => agent.connect()).toThrow(/ECONNREFUSED/);
    await agent.start();
    expect(statSync(agent.agentDir).ino).toBe(directory);
    using after = agent.connect();
    const { answer, fds } = await after.ask([kvm]);
    expect(answer.ok).toBe(true);
    for (const fd of fds) fd[Symbol.dispose]();
  });

  it("lets any user of a pod connect, and labels what SELinux would hide", async () => {
    const labelled: string[] = [];
    await using agent = new RunningAgent({ label: (path) => labelled.push(path) });
    await agent.start();
    expect(statSync(agent.socketPath).mode & 0o777).toBe(0o666);
    expect(labelled).toEqual([agent.agentDir, `${agent.agentDir}/.agent.sock~`]);
    expect(readdirSync(agent.agentDir)).toEqual(["agent.sock"]);
  });
});

describe("a block device is refused without being touched", () => {
  it.each([
    ["what does not exist", "/dev/no-such-device", "DeviceMissing", /does not exist/],
    ["what is no block device", "/dev/null", "BadRequest", /not a block device/],
    ["a way through a magic link", "/proc/self/root/dev/null", "NotAuthorized", /symbolic link/],
    ["a way through a file", "/dev/null/x", "DeviceMissing", /does not exist/],
    ["a directory", "/dev", "BadRequest", /not a block device/],
  ])("%s", async (_what, path, code, says) => {
    await using agent = await new RunningAgent().start();
    using client = agent.connect();
    const { answer } = await client.ask([device(path)]);
    expect(answer).toMatchObject({ ok: false, error: { code, item: 0, message: expect.stringMatching(says) } });
  });

  it("a symbolic link, even to what is allowed", async () => {
    await using agent = await new RunningAgent().start();
    const link = `/dev/shm/typevisor-link-${process.pid}`;
    symlinkSync("/dev/null", link);
    try {
      using client = agent.connect();
      expect((await client.ask([device(link)])).answer).toMatchObject({ ok: false, error: { code: "BadRequest" } });
    } finally {
      unlinkSync(link);
    }
  });
});

describe("a hostile client", () => {
  it("gets an answer to each line that is no request, and can go on", async () => {
    await using agent = await new RunningAgent().start();
    using client = agent.connect();
    for (const [line, code] of [
      ["{", "BadRequest"],
      ['{"version":7}', "UnsupportedVersion"],
      ['{"version":1,"want":[{"kind":"root"}]}', "BadRequest"],
    ]) {
      client.send(`${line}\n`);
      expect((await client.receive()).answer).toMatchObject({ ok: false, error: { code } });
    }
    expect((await client.ask([])).answer.ok).toBe(true);
  });

  it("is cut off at a line without end", async () => {
    await using agent = await new RunningAgent().start();
    using client = agent.connect();
    client.send("x".repeat(AGENT_LINE_MAX_BYTES));
    await client.closed();
  });

  it("can send its request in pieces, or several at once", async () => {
    await using agent = await new RunningAgent().start();
    using client = agent.connect();
    client.send('{"version":1,');
    await new Promise(setImmediate);
    client.send('"want":[]}\n{"version":1,"want":[]}\n');
    expect((await client.receive()).answer.ok).toBe(true);
  });

  it("that reads no answers is cut off, and others do not notice", async () => {
    await using agent = await new RunningAgent().start();
    using deaf = agent.connect();
    const line = '{"version":1,"want":[]}\n'.repeat(2000);
    const flood = async () => {
      for (;;) {
        try {
          deaf.send(line);
        } catch (error) {
          const code: unknown = Object(error).code;
          if (code === "EPIPE" || code === "ECONNRESET") return;
        }
        await new Promise((turn) => setTimeout(turn, 1));
      }
    };
    await flood();
    using client = agent.connect();
    expect((await client.ask([])).answer.ok).toBe(true);
  });

  it("cannot keep other pods from the agent by holding connections", async () => {
    let podUid = testPod.podUid;
    await using agent = await new RunningAgent({ pods: { podOf: () => ({ ...testPod, podUid }) } }).start();
    using sockets = new DisposableStack();
    const mine = Array.from({ length: 16 }, () => sockets.use(agent.connect()));
    for (const socket of mine) expect((await socket.ask([])).answer.ok).toBe(true);
    await sockets.use(agent.connect()).closed();
    podUid = "11111111-2222-3333-4444-555555555555";
    expect((await sockets.use(agent.connect()).ask([])).answer.ok).toBe(true);
  });

  it("can send anything and leave at any time", async () => {
    await using agent = await new RunningAgent().start();
    const noise = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 200 }),
      fc.json().map((text) => Buffer.from(`${text}\n`)),
      fc.constant(Buffer.from('{"version":1,"want":[{"kind":"kvm"}]}\n')),
    );
    await fc.assert(
      fc.asyncProperty(noise, fc.boolean(), async (bytes, stays) => {
        using client = agent.connect();
        client.send(bytes);
        if (stays) await new Promise(setImmediate);
      }),
      { numRuns: 200 },
    );
    using client = agent.connect();
    expect((await client.ask([])).answer.ok).toBe(true);
    expect(agent.lines.filter(({ message }) => message === "request failed")).toEqual([]);
  });
});
