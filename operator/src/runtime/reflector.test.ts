import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { Client } from "./client.ts";
import { plainConnection } from "./connection.ts";
import { Reflector } from "./reflector.ts";
import { Store } from "./store.ts";
import { FakeApiServer } from "./testing/fake-api-server.ts";
import { FakeClock } from "./testing/fake-clock.ts";
import { RecordingLogger } from "./testing/recording-logger.ts";
import { until } from "./testing/until.ts";
import { type Pod, resources } from "./wire.ts";

const pod = (name: string, namespace = "ns"): Pod => ({ metadata: { name, namespace } });

describe("Reflector", () => {
  let server: FakeApiServer;
  let clock: FakeClock;
  let store: Store<Pod>;
  let stop: AbortController;
  let running: Promise<void>;
  const names = () => [...store.values()].map((p) => p.metadata?.name).sort();
  const start = (namespace?: string) => {
    const client = new Client(plainConnection(server.url));
    const selection = { namespace };
    const logger = new RecordingLogger();
    const random = () => 0;
    const onSynced = () => store.markSynced();
    const options = { client, resource: resources.pods, selection, store, clock, logger, random, onSynced };
    running = new Reflector<Pod>(options).run(stop.signal);
  };
  /** Lets back-off timers fire while waiting. */
  const eventually = (check: () => boolean) =>
    until(() => {
      if (check()) return true;
      if ((clock.nextTimerMs ?? Number.POSITIVE_INFINITY) <= 30_000) clock.advance(clock.nextTimerMs ?? 0);
      return false;
    });

  beforeEach(async () => {
    server = await FakeApiServer.start();
    clock = new FakeClock();
    store = new Store();
    stop = new AbortController();
  });
  afterEach(async () => {
    stop.abort();
    await running;
    await server[Symbol.asyncDispose]();
  });

  it("lists in pages, then follows additions, changes and deletions", async () => {
    for (let n = 0; n < 1_203; n += 1) server.write("pods", pod(`p${n}`));
    start();
    await store.synced;
    expect(store.size).toBe(1_203);
    expect(server.requests.filter((r) => !r.isWatch).length).toBe(3);
    await until(() => server.watcherCount === 1);
    server.write("pods", pod("late"));
    server.edit<Pod>("pods", "ns", "p0", (p) => {
      p.status = { phase: "Running" };
    });
    server.erase("pods", "ns", "p1");
    await until(() => store.get("ns/late") && store.get("ns/p0")?.status?.phase === "Running" && !store.get("ns/p1"));
  });

  it("watches one namespace only when told so", async () => {
    server.write("pods", pod("here"));
    server.write("pods", pod("there", "other"));
    start("ns");
    await store.synced;
    expect(names()).toEqual(["here"]);
  });

  it("goes on from where it was when the connection breaks, without a new list", async () => {
    start();
    await until(() => server.watcherCount === 1);
    server.breakWatches();
    server.write("pods", pod("meanwhile"));
    await eventually(() => names().includes("meanwhile"));
    expect(server.requests.filter((r) => !r.isWatch).length).toBe(1);
  });

  it("lists again after an in-band 410, and drops what was deleted meanwhile", async () => {
    server.write("pods", pod("gone"));
    start();
    await until(() => server.watcherCount === 1);
    server.breakWatches();
    server.erase("pods", "ns", "gone");
    server.write("pods", pod("new"));
    server.compact();
    await eventually(() => names().join() === "new");
    await until(() => server.watcherCount === 1);
    server.expireWatches();
    server.write("pods", pod("newer"));
    await eventually(() => names().join() === "new,newer");
  });

  it("goes on from a bookmark, so that a quiet resource does not expire", async () => {
    start();
    await until(() => server.watcherCount === 1);
    server.bookmark();
    server.compact();
    await until(() => server.requests.length === 2);
    server.write("pods", pod("a"));
    await until(() => names().includes("a"));
    server.breakWatches();
    await eventually(() => server.watcherCount === 1);
    expect(server.requests.filter((r) => !r.isWatch).length).toBe(1);
  });

  it("survives every kind of failure of the server", async () => {
    const faults = [500, 503, 403, 429, 410].map((code) => ({ kind: "answer" as const, status: { code } }));
    const planned = [...faults, { kind: "drop-before" as const }, { kind: "drop-after" as const }];
    const queue = [...planned];
    server.intercept = () => queue.shift();
    server.write("pods", pod("a"));
    start();
    await eventually(() => store.hasSynced);
    await eventually(() => server.watcherCount === 1);
    queue.push(...planned);
    server.breakWatches();
    server.write("pods", pod("b"));
    await eventually(() => names().join() === "a,b");
    expect(queue.length).toBe(0);
  });

  it("waits longer after each failure in a row", async () => {
    server.intercept = () => ({ kind: "answer", status: { code: 500 } });
    start();
    const delays: number[] = [];
    for (let n = 1; n <= 7; n += 1) {
      await until(() => server.requests.length === n && clock.nextTimerMs !== undefined);
      delays.push(clock.nextTimerMs ?? 0);
      clock.advance(clock.nextTimerMs ?? 0);
    }
    // random() is 0: half of 1, 2, 4 ... 30 s.
    expect(delays).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  });

  it("gives a watch up that has been silent beyond the server's own time", async () => {
    start();
    await until(() => server.watcherCount === 1);
    await until(() => clock.nextTimerMs === 330_000);
    clock.advance(330_000);
    await eventually(() => server.requests.filter((r) => r.isWatch).length === 2);
    server.write("pods", pod("after"));
    await eventually(() => names().includes("after"));
  });
});
