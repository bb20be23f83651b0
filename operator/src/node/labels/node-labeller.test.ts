import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { type CpuFeatures, parseCpuFeatures } from "../../../../launcher/api/cpu-features.ts";
import { Client } from "../../runtime/client.ts";
import { plainConnection } from "../../runtime/connection.ts";
import { FakeApiServer } from "../../runtime/testing/fake-api-server.ts";
import { FakeClock } from "../../runtime/testing/fake-clock.ts";
import { RecordingLogger } from "../../runtime/testing/recording-logger.ts";
import { until } from "../../runtime/testing/until.ts";
import { CPU_FEATURES_ANNOTATION, cpuLabels, nodeCpuOf } from "../../scheduling/node-cpu.ts";
import { NodeLabeller } from "./node-labeller.ts";

const text = "GenuineIntel 1/0/ecx:3 7/0/eax#1";
const newer = "GenuineIntel 1/0/ecx:7 7/0/eax#1";

describe("a node agent", () => {
  let server: FakeApiServer;
  let clock: FakeClock;
  let logger: RecordingLogger;
  let features: CpuFeatures | undefined;
  let stop: AbortController;
  let labeller: NodeLabeller;
  let running: Promise<void>;

  beforeEach(async () => {
    server = await FakeApiServer.start();
    clock = new FakeClock();
    logger = new RecordingLogger();
    features = parseCpuFeatures(text);
    stop = new AbortController();
    server.write("nodes", { metadata: { name: "node-1", labels: { zone: "a" }, annotations: { note: "x" } } });
    server.write("nodes", { metadata: { name: "node-2" } });
    const client = new Client(plainConnection(server.url));
    labeller = new NodeLabeller({ client, clock, logger, nodeName: "node-1", features: () => features });
    running = labeller.run(stop.signal);
  });
  afterEach(async () => {
    stop.abort();
    await running;
    await server[Symbol.asyncDispose]();
  });

  const metadataOf = (name: string) => server.read("nodes", "", name)?.metadata;
  const says = (wanted: string) => metadataOf("node-1")?.annotations?.[CPU_FEATURES_ANNOTATION] === wanted;
  const writes = () => server.requests.filter(({ isWrite }) => isWrite).length;

  it("says on its own node, and on no other, what guests are given there", async () => {
    await until(() => says(text));
    expect(metadataOf("node-1")?.labels).toMatchObject({ zone: "a", [cpuLabels.level]: "x86-64-v1" });
    expect(metadataOf("node-1")?.annotations).toMatchObject({ note: "x" });
    expect(nodeCpuOf({ metadata: metadataOf("node-1") ?? {} })?.features).toEqual(parseCpuFeatures(text));
    expect(metadataOf("node-2")?.labels).toBeUndefined();
    expect(writes()).toBe(1);
  });

  it("says it again when somebody changes it, or registers the node anew", async () => {
    await until(() => says(text));
    server.edit("nodes", "", "node-1", ({ metadata }) =>
      Object.assign(metadata?.labels ?? {}, { [cpuLabels.class]: "0" }),
    );
    await until(() => nodeCpuOf({ metadata: metadataOf("node-1") ?? {} }) !== undefined);
    server.erase("nodes", "", "node-1");
    await until(() => metadataOf("node-1") === undefined);
    server.write("nodes", { metadata: { name: "node-1" } });
    await until(() => says(text));
  });

  it("says what is given by now, and lets stand what it said while KVM is away", async () => {
    await until(() => says(text));
    features = undefined;
    labeller.look();
    features = parseCpuFeatures(newer);
    labeller.look();
    await until(() => says(newer));
  });

  it("writes nothing when something else of the node changes", async () => {
    await until(() => says(text));
    server.edit("nodes", "", "node-1", ({ metadata }) => Object.assign(metadata?.labels ?? {}, { zone: "b" }));
    server.edit("nodes", "", "node-1", ({ metadata }) =>
      Object.assign(metadata?.labels ?? {}, { [cpuLabels.level]: "" }),
    );
    await until(() => metadataOf("node-1")?.labels?.[cpuLabels.level] === "x86-64-v1");
    expect(writes()).toBe(2);
    expect(metadataOf("node-1")?.labels).toMatchObject({ zone: "b" });
  });

  it("does not make a node that is gone, and tries again where it is refused", async () => {
    await until(() => says(text));
    let refusals = 0;
    server.intercept = ({ method, isWatch }) => {
      if (method !== "PATCH" || isWatch) return undefined;
      refusals += 1;
      return { kind: "answer", status: { kind: "Status", code: 403, reason: "Forbidden", message: "no" } };
    };
    server.edit("nodes", "", "node-1", ({ metadata }) =>
      Object.assign(metadata?.labels ?? {}, { [cpuLabels.level]: "" }),
    );
    await until(() => refusals > 0 && logger.lines.some(({ level }) => level === "warn"));
    server.intercept = undefined;
    await until(() => {
      clock.advance(1_000);
      return metadataOf("node-1")?.labels?.[cpuLabels.level] === "x86-64-v1";
    });
  });
});
