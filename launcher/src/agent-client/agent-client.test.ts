import { once } from "node:events";
import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { AGENT_LINE_MAX_BYTES, type AgentWant } from "../../api/agent.ts";
import { recordingLog } from "../testing/recording-log.ts";
import { until } from "../testing/until.ts";
import { AgentRefused, AgentUnavailable, askAgent } from "./agent-client.ts";

/** Answers connections by a script, in a thread of its own since the client blocks. "" closes without an answer. */
const SCRIPTED_AGENT = `
const { parentPort, workerData } = require("node:worker_threads");
const answers = [...workerData.answers];
require("node:net").createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", (request) => {
    parentPort.postMessage(request.toString());
    const answer = answers.shift();
    answer === "" ? socket.destroy() : socket.write(answer);
  });
}).listen(workerData.path, () => parentPort.postMessage("listening"));
`;

let directory = "";
let socketPath = "";
let worker: Worker | undefined;
const kvm: AgentWant = { kind: "kvm" };
const granted = '{"version":1,"ok":true,"agentVersion":"1"}\n';

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "agent-client-"));
  socketPath = join(directory, "agent.sock");
});

afterEach(async () => {
  await worker?.terminate();
  worker = undefined;
  rmSync(directory, { recursive: true });
});

async function agentThatAnswers(...answers: string[]): Promise<string[]> {
  worker = new Worker(SCRIPTED_AGENT, { eval: true, workerData: { path: socketPath, answers } });
  await once(worker, "message");
  const requests: string[] = [];
  worker.on("message", (request) => requests.push(request));
  return requests;
}

async function agentThatSends(count: number, taps?: readonly unknown[]): Promise<void> {
  const script = new URL("./testing/generous-agent.ts", import.meta.url);
  worker = new Worker(script, { workerData: { path: socketPath, count, taps } });
  await once(worker, "message");
}

function ask(want: readonly AgentWant[], deadlineMs = 5_000, signal?: AbortSignal) {
  const log = recordingLog();
  return askAgent(want, { socketPath, deadlineMs, log: log.log, ...(signal && { signal }) });
}

async function failure(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => new Error("it did not fail"),
    (error: unknown) => error as Error,
  );
}

describe("asking the node agent", () => {
  it("sends one line of JSON", async () => {
    const requests = await agentThatAnswers(granted);
    await ask([]);
    await until(() => requests.length === 1);
    expect(JSON.parse(requests[0] ?? "")).toEqual({ version: 1, want: [] });
    expect(requests[0]?.endsWith("\n")).toBe(true);
  });

  it("passes on a refusal with its code and item, and does not ask again", async () => {
    const requests = await agentThatAnswers(
      '{"version":1,"ok":false,"error":{"code":"DeviceMissing","message":"/dev/kvm is missing","item":0}}\n',
    );
    const error = await failure(ask([kvm]));
    expect(error).toBeInstanceOf(AgentRefused);
    expect(error).toMatchObject({ code: "DeviceMissing", item: 0 });
    expect(error.message).toBe("the node agent refused (DeviceMissing): /dev/kvm is missing");
    await until(() => requests.length === 1);
  });

  it("asks again when the agent goes away in the middle", async () => {
    const requests = await agentThatAnswers("", "", granted);
    await ask([]);
    await until(() => requests.length === 3);
  });

  it("waits for an agent that comes later, over a stale socket", async () => {
    const answer = ask([]);
    await agentThatAnswers(granted);
    expect(await answer).toEqual([]);
  });

  it("gives up at its deadline and names what to check", async () => {
    const error = await failure(ask([kvm], 30));
    expect(error).toBeInstanceOf(AgentUnavailable);
    expect(error.message).toMatch(/did not answer at .*agent\.sock for 30 ms .*requests devices\.typevisor\.io\/kvm/);
    writeFileSync(socketPath, "");
    expect((await failure(ask([kvm], 30))).message).toMatch(/ECONNREFUSED.*check that the node agent runs/);
  });

  it("stops waiting when it is told to", async () => {
    const stop = new AbortController();
    const answer = failure(ask([kvm], 60_000, stop.signal));
    stop.abort(new Error("asked to stop"));
    expect(String(await answer)).toBe("Error: asked to stop");
  });

  it.each([
    ["what is not JSON", "hello\n", /not of the protocol/],
    ["null", "null\n", /not of the protocol/],
    ["another version", '{"version":2,"ok":true}\n', /not of the protocol.*update/],
    ["an error without a message", '{"version":1,"ok":false,"error":{}}\n', /not of the protocol/],
    ["too few descriptors", granted, /sent 0 descriptors where 1 were due/],
    ["an endless line", "x".repeat(AGENT_LINE_MAX_BYTES), /longer than 65536 bytes/],
  ])("refuses %s", async (_what, answer, says) => {
    await agentThatAnswers(answer);
    const error = await failure(ask([kvm]));
    expect(error).toBeInstanceOf(AgentUnavailable);
    expect(error.message).toMatch(says);
  });

  it("gets its descriptors in order, each its own", async () => {
    await agentThatSends(2);
    const fds = (await ask([kvm, kvm])).flatMap((granted) => granted.fds);
    expect(new Set(fds.map(({ fd }) => fd)).size).toBe(2);
    for (const fd of fds) {
      expect(readlinkSync(`/proc/self/fd/${fd.fd}`)).toBe("/dev/null");
      fd[Symbol.dispose]();
    }
  });

  const tapWant = (name: string, queues: number): AgentWant => {
    const binding = { kind: "podIP", ownPorts: [] } as const;
    return { kind: "tap", name, queues, vhost: true, binding };
  };
  const grant = (name: string, more: object = {}) => ({
    name,
    device: `tap-${name}`,
    mtuBytes: 1450,
    vhost: false,
    ...more,
  });

  it("gets of a TAP its queues, and with vhost-net as many of these and one more", async () => {
    await agentThatSends(1 + 2 + 7 + 1, [grant("a"), grant("b", { vhost: true })]);
    const all = await ask([kvm, tapWant("a", 2), tapWant("b", 3), kvm]);
    expect(all.map(({ fds, tap }) => [fds.length, tap?.name])).toEqual([
      [1, undefined],
      [2, "a"],
      [7, "b"],
      [1, undefined],
    ]);
    for (const fd of all.flatMap(({ fds }) => fds)) fd[Symbol.dispose]();
  });

  it.each([
    ["of another name", grant("b")],
    ["with a device name that leads elsewhere", grant("a", { device: "../lo" })],
    ["without an MTU", grant("a", { mtuBytes: undefined })],
    ["that does not say what follows", grant("a", { vhost: undefined })],
    ["that is missing", undefined],
  ])("refuses a grant %s", async (_what, found) => {
    await agentThatSends(2, found ? [found] : undefined);
    expect((await failure(ask([tapWant("a", 2)]))).message).toMatch(/grant of TAP a is not sound; update it/);
  });

  it("says what to check when descriptors were lost on the way, as where SELinux denies them", async () => {
    await agentThatSends(3);
    const error = await failure(ask([kvm]));
    expect(error).toBeInstanceOf(AgentUnavailable);
    expect(error.message).toMatch(/MSG_CTRUNC.*SELinux.*fd use/);
  });

  it("says what to check when the path is no socket that can be connected to", async () => {
    socketPath = join(directory, "agent.sock", "below-a-file");
    writeFileSync(join(directory, "agent.sock"), "");
    expect((await failure(ask([kvm]))).message).toMatch(/cannot be asked at .*ENOTDIR/);
  });

  it("leaves no descriptor open", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    await agentThatAnswers(granted, "null\n", "", granted);
    await ask([]);
    const before = open();
    await failure(ask([kvm]));
    await failure(ask([kvm], 1));
    // The agent is a thread of this process, and closes its ends later.
    await until(() => open() <= before);
  });
});
