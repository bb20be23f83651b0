import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { Client } from "./client.ts";
import { plainConnection } from "./connection.ts";
import { EventRecorder } from "./event-recorder.ts";
import { FakeApiServer } from "./testing/fake-api-server.ts";
import { FakeClock } from "./testing/fake-clock.ts";
import { RecordingLogger } from "./testing/recording-logger.ts";
import type { Event } from "./wire.ts";

const vm = { apiVersion: "typevisor.io/v1alpha1", kind: "VirtualMachine", namespace: "ns", name: "web", uid: "u1" };
const crash = { type: "Warning", reason: "ResetStorm", action: "Stop", note: "it reset itself" } as const;

describe("EventRecorder", () => {
  let server: FakeApiServer;
  let clock: FakeClock;
  let recorder: EventRecorder;
  let logger: RecordingLogger;
  const events = () => server.all<Event>("events");

  beforeEach(async () => {
    server = await FakeApiServer.start();
    clock = new FakeClock();
    logger = new RecordingLogger();
    recorder = new EventRecorder({
      client: new Client(plainConnection(server.url)),
      clock,
      logger,
      reportingController: "typevisor.io/operator",
      reportingInstance: "operator-0",
    });
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it("writes one event, in the namespace of what it is about", async () => {
    recorder.record(vm, crash);
    await recorder.flush();
    expect(events()).toMatchObject([{ metadata: { namespace: "ns" }, regarding: { uid: "u1" }, reason: "ResetStorm" }]);
    expect(events()[0]?.eventTime).toMatch(/\.\d{6}Z$/);
  });

  it("makes a series of repeats, and a new event once they have paused", async () => {
    for (let n = 0; n < 3; n += 1) {
      recorder.record(vm, crash);
      clock.advance(60_000);
    }
    await recorder.flush();
    expect(events().map((e) => e.series?.count)).toEqual([3]);
    clock.advance(7 * 60_000);
    recorder.record(vm, crash);
    await recorder.flush();
    expect(events().length).toBe(2);
  });

  it("writes no more than a burst about one object, and still writes about others", async () => {
    for (let n = 0; n < 100; n += 1) {
      recorder.record(vm, { ...crash, note: `number ${n}` });
    }
    recorder.record({ ...vm, uid: "u2", name: "other" }, crash);
    await recorder.flush();
    expect(events().length).toBe(26);
    expect(events().some((e) => e.regarding?.uid === "u2")).toBe(true);
  });

  it("drops what is too much to write, and tells how much once", async () => {
    for (let n = 0; n < 1100; n += 1) {
      recorder.record({ ...vm, uid: `u${n}`, name: `vm-${n}` }, crash);
    }
    await recorder.flush();
    expect(events().length).toBe(1000);
    expect(logger.lines.filter((line) => line.level === "warn")).toMatchObject([{ fields: { dropped: 100 } }]);
  }, 60_000);

  it("goes on after a write that failed", async () => {
    server.intercept = () => ({ kind: "answer", status: { code: 500 } });
    recorder.record(vm, crash);
    await recorder.flush();
    server.intercept = undefined;
    recorder.record(vm, { ...crash, note: "another" });
    await recorder.flush();
    expect(events().length).toBe(1);
  });
});
