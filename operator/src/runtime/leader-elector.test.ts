import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { Client } from "./client.ts";
import { plainConnection } from "./connection.ts";
import { LeaderElector } from "./leader-elector.ts";
import { FakeApiServer } from "./testing/fake-api-server.ts";
import { FakeClock } from "./testing/fake-clock.ts";
import { RecordingLogger } from "./testing/recording-logger.ts";
import { until } from "./testing/until.ts";
import type { Lease } from "./wire.ts";

describe("LeaderElector", () => {
  let server: FakeApiServer;
  const stop = new AbortController();
  const elector = (identity: string, clock: FakeClock) =>
    new LeaderElector({
      client: new Client(plainConnection(server.url)),
      clock,
      logger: new RecordingLogger(),
      namespace: "ns",
      name: "lease",
      identity,
    });
  const lease = () => server.read<Lease>("leases", "ns", "lease");
  const tick = (clock: FakeClock) => clock.advance(clock.nextTimerMs ?? 0);

  beforeEach(async () => {
    server = await FakeApiServer.start();
  });
  afterEach(() => server[Symbol.asyncDispose]());

  it("creates the lease, with times of six fractional digits", async () => {
    expect(await elector("a", new FakeClock()).acquire(stop.signal)).toBe(true);
    expect(lease()?.spec?.holderIdentity).toBe("a");
    expect(lease()?.spec?.renewTime).toMatch(/\.\d{6}Z$/);
  });

  it("takes over only after it has itself watched the lease stand still for its whole duration", async () => {
    await elector("a", new FakeClock()).acquire(stop.signal);
    // Its wall clock is an hour ahead: the lease looks long expired by the other's time stamps.
    const clock = new FakeClock(Date.parse("2026-01-02T04:04:05Z"));
    const taking = elector("b", clock).acquire(stop.signal);
    let acquired = false;
    void taking.then(() => {
      acquired = true;
    });
    let reads = 0;
    while (!acquired) {
      await until(() => clock.nextTimerMs !== undefined || acquired);
      if (!acquired) {
        reads += 1;
        expect(lease()?.spec?.holderIdentity).toBe("a");
        tick(clock);
      }
    }
    expect(clock.monotonic()).toBeGreaterThanOrEqual(15_000);
    expect(reads).toBeGreaterThan(5);
    expect(lease()?.spec).toMatchObject({ holderIdentity: "b", leaseTransitions: 1 });
  });

  it("lets one of two win that see the lease free at the same time", async () => {
    const abort = new AbortController();
    const results = ["a", "b"].map((identity) => elector(identity, new FakeClock()).acquire(abort.signal));
    await Promise.race(results);
    await until(() => lease()?.spec?.holderIdentity);
    abort.abort();
    expect((await Promise.all(results)).filter(Boolean).length).toBe(1);
  });

  it("renews while it holds, and says so when it is asked to stop", async () => {
    const clock = new FakeClock();
    const a = elector("a", clock);
    await a.acquire(stop.signal);
    const abort = new AbortController();
    const held = a.hold(abort.signal);
    const before = lease()?.metadata?.resourceVersion;
    await until(() => clock.nextTimerMs !== undefined);
    tick(clock);
    await until(() => lease()?.metadata?.resourceVersion !== before);
    abort.abort();
    expect(await held).toBe("stopped");
  });

  it("counts as lost at the renew deadline, even when a call hangs", async () => {
    const clock = new FakeClock();
    const a = elector("a", clock);
    await a.acquire(stop.signal);
    const held = a.hold(stop.signal);
    server.intercept = () => ({ kind: "drop-before" });
    let outcome: string | undefined;
    void held.then((result) => {
      outcome = result;
    });
    await until(() => {
      if (clock.nextTimerMs !== undefined) tick(clock);
      return outcome;
    });
    expect(outcome).toBe("lost");
    expect(clock.monotonic()).toBeLessThanOrEqual(12_000);
  });

  it("has lost when another has taken the lease", async () => {
    const clock = new FakeClock();
    const a = elector("a", clock);
    await a.acquire(stop.signal);
    server.edit<Lease>("leases", "ns", "lease", (l) => {
      l.spec = { ...l.spec, holderIdentity: "b" };
    });
    const held = a.hold(stop.signal);
    await until(() => clock.nextTimerMs !== undefined);
    tick(clock);
    expect(await held).toBe("lost");
    expect(lease()?.spec?.holderIdentity).toBe("b");
  });

  it("releases the lease so that the next need not wait, and releases nothing that is not its own", async () => {
    const a = elector("a", new FakeClock());
    await a.acquire(stop.signal);
    await a.release();
    expect(lease()?.spec?.holderIdentity).toBe("");
    expect(await elector("b", new FakeClock()).acquire(stop.signal)).toBe(true);
    await a.release();
    expect(lease()?.spec?.holderIdentity).toBe("b");
  });
});
