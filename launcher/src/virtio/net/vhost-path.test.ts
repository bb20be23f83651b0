import { afterEach, describe, expect, it } from "@jest/globals";
import { macBytes } from "../../net/addresses.ts";
import type { VhostRegion, VhostRing } from "../../net/vhost-net.ts";
import { readPacket, writePacket } from "../../sys/frame-io.ts";
import { until } from "../../testing/until.ts";
import { FakePoller } from "../testing/fake-poller.ts";
import { NET_QUEUE_SIZE, NetDevice } from "./device.ts";
import { InProcessPath } from "./in-process-path.ts";
import { SwitchablePath } from "./switchable-path.ts";
import { FakeTap, HEADER_BYTES, NetDriver } from "./testing/net-driver.ts";
import { type VhostPair, VhostPath } from "./vhost-path.ts";

const MAC = "02:5a:00:12:34:56";
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** The kernel's part of one pair, that only remembers. */
class FakeVhost implements VhostPair {
  features: readonly number[] = [];
  regions: readonly VhostRegion[] = [];
  readonly rings: (VhostRing | undefined)[] = [];
  readonly kicks: number[] = [];
  readonly calls: number[] = [];
  readonly backends: (number | null)[] = [null, null];
  /** What it has taken of each ring. */
  readonly taken = [0, 0];

  setFeatures(wanted: Iterable<number>): void {
    this.features = [...wanted];
  }
  setMemory(regions: readonly VhostRegion[]): void {
    this.regions = regions;
  }
  setRing(index: number, ring: VhostRing): void {
    if (this.backends[index] !== null) throw new Error("a ring was changed under the kernel");
    this.rings[index] = ring;
    this.taken[index] = ring.nextAvailable;
  }
  setEvents(index: number, kickFd: number, callFd: number): void {
    this.kicks[index] = kickFd;
    this.calls[index] = callFd;
  }
  setBackend(index: number, tapFd: number | null): void {
    this.backends[index] = tapFd;
  }
  nextAvailable(index: number): number {
    if (this.backends[index] !== null) throw new Error("a ring that is in use was asked for");
    return this.taken[index] ?? 0;
  }

  /** Whether the driver rang for a ring since. */
  wasKicked(index: number): boolean {
    return readPacket(this.kicks[index] ?? -1, new Uint8Array(8)) === 8;
  }
}

let open = new DisposableStack();
afterEach(() => {
  open[Symbol.dispose]();
  open = new DisposableStack();
});

function setUp(pairs = 1, poller?: FakePoller) {
  const taps = Array.from({ length: pairs }, () => open.use(new FakeTap()));
  const vhosts = Array.from({ length: pairs }, () => new FakeVhost());
  const use = {
    receive: { packets: 1, bytes: 2, dropped: 3, errors: 4 },
    transmit: { packets: 5, bytes: 6, dropped: 7, errors: 8 },
  };
  const vhost = new VhostPath({ taps, vhosts, counters: { read: () => use } });
  const inProcess = new InProcessPath({ taps, chainLimit: NET_QUEUE_SIZE, mtuBytes: 1500, poller, answer: () => null });
  const path = open.use(new SwitchablePath(vhost, inProcess, pairs));
  const isPolled = poller !== undefined;
  const device = new NetDevice({
    name: "default",
    mac: macBytes(MAC),
    mtuBytes: 1500,
    pairs,
    link: "up",
    path,
    isPolled,
  });
  const driver = open.use(new NetDriver(device, poller));
  driver.start();
  open.defer(() => void device.reset());
  const [tap] = taps;
  const [first] = vhosts;
  if (!tap || !first) throw new Error("no pair");
  return { taps, vhosts, tap, first, path, device, driver };
}

const frame = (seed: number) => Uint8Array.from({ length: 64 }, (_, i) => (i + seed) & 0xff);

describe("an interface on vhost-net", () => {
  it("gives the kernel memory, rings and the TAP of the first pair", () => {
    const { driver, first, tap, path } = setUp();
    expect(path.name).toBe("vhost-net");
    const { memory } = driver.pci;
    expect(first.regions.map(({ gpa, sizeBytes }) => [gpa, sizeBytes])).toEqual(
      memory.regions.map(({ gpa, sizeBytes }) => [gpa, sizeBytes]),
    );
    const { layout } = driver.ring(1);
    expect(first.rings[1]).toEqual({
      size: layout.size,
      descriptorTable: memory.hostAddress(layout.descriptorTable, 1),
      availableRing: memory.hostAddress(layout.availableRing, 1),
      usedRing: memory.hostAddress(layout.usedRing, 1),
      nextAvailable: 0,
    });
    expect(first.backends).toEqual([tap.fd, tap.fd]);
    expect(new Set(first.features)).toEqual(driver.pci.offeredFeatures());
    expect(tap.offloads).toEqual([0x0f]);
  });

  it("has the guest ring at the kernel, and the kernel interrupt the guest", async () => {
    const { driver, first } = setUp();
    first.wasKicked(1);
    driver.pci.kick(1);
    expect([first.wasKicked(1), first.wasKicked(1)]).toEqual([true, false]);
    driver.pci.interrupts.length = 0;
    writePacket(first.calls[0] ?? -1, ONE);
    await until(() => driver.pci.interrupts.length === 1);
    expect(driver.pci.interrupts).toEqual([1]);
  });

  it("still answers commands in the process: more pairs, and fewer", () => {
    const { driver, taps, vhosts } = setUp(3);
    const backends = () => vhosts.map(({ backends: [receive, transmit] }) => [receive, transmit]);
    const none = [null, null];
    const all = taps.map(({ fd }) => [fd, fd]);
    expect(backends()).toEqual([all[0], none, none]);
    expect(driver.control(4, 0, Uint8Array.of(3, 0))).toBe(0);
    expect(backends()).toEqual(all);
    expect(driver.control(4, 0, Uint8Array.of(2, 0))).toBe(0);
    expect([backends(), taps.map(({ isAttached }) => isAttached)]).toEqual([
      [all[0], all[1], none],
      [true, true, false],
    ]);
  });

  it("carries nothing while its link is down, and rings for what waits when it is up", () => {
    const { device, first, tap } = setUp();
    device.setLink("down");
    expect(first.backends).toEqual([null, null]);
    for (const ring of [0, 1]) first.wasKicked(ring);
    device.setLink("up");
    expect(first.backends).toEqual([tap.fd, tap.fd]);
    expect([first.wasKicked(0), first.wasKicked(1)]).toEqual([true, true]);
  });

  it("takes the rings from the kernel at a reset, and gives it those of the next driver", () => {
    const { driver, first, tap } = setUp();
    driver.pci.status = 0;
    expect(first.backends).toEqual([null, null]);
    driver.start();
    expect(first.backends).toEqual([tap.fd, tap.fd]);
  });

  it("says what the kernel has counted", () => {
    expect(setUp().path.use().transmit).toMatchObject({ packets: 5, errors: 8 });
  });
});

describe("an interface whose writes are to be logged", () => {
  it("goes on in the process where the kernel stopped, and back", async () => {
    const { driver, first, path, tap } = setUp();
    // The kernel has sent one of two frames; the second waits.
    driver.send(frame(1));
    driver.send(frame(2));
    first.taken[1] = 1;
    driver.pci.memory.writeU16((driver.ring(1).layout.usedRing + 2) as never, 1);
    const buffers = driver.offer([256, 256]);
    path.setLogged(true);
    expect([path.name, first.backends]).toEqual(["inProcess", [null, null]]);
    await until(
      () => path.name === "inProcess" && driver.pci.memory.readU16((driver.ring(1).layout.usedRing + 2) as never) === 2,
    );
    expect(tap.received().map((bytes) => bytes.slice(HEADER_BYTES))).toEqual([frame(2)]);
    tap.send(frame(3));
    expect(await driver.used(1)).toEqual([{ head: 0, writtenBytes: 76 }]);
    expect(buffers[0] && driver.bytes(buffers[0], 76).slice(HEADER_BYTES)).toEqual(frame(3));
    driver.send(frame(4));
    expect(tap.received()).toHaveLength(1);
    path.setLogged(false);
    expect(path.name).toBe("vhost-net");
    // One of two receive buffers is used, and the other is the next.
    expect([first.rings[0]?.nextAvailable, first.rings[1]?.nextAvailable]).toEqual([1, 3]);
    expect(first.backends).toEqual([tap.fd, tap.fd]);
  });

  it("is looked at in the process alone", async () => {
    const poller = new FakePoller();
    const { driver, path, tap } = setUp(1, poller);
    path.setLogged(true);
    driver.offer([256]);
    for (const seed of [1, 2]) driver.send(frame(seed));
    tap.send(frame(3));
    await driver.used(1);
    expect(poller.sources.size).toBe(2);
    path.setLogged(false);
    expect(poller.sources.size).toBe(0);
  });

  it("keeps pairs and offloads as the driver asked", () => {
    const { driver, path, taps, tap } = setUp(2);
    driver.control(4, 0, Uint8Array.of(2, 0));
    driver.control(5, 0, Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0));
    path.setLogged(true);
    expect([taps.map(({ isAttached }) => isAttached), tap.offloads.at(-1)]).toEqual([[true, true], 1]);
  });

  it("is so from the start where nobody drives it yet", () => {
    const { device, driver, path, first } = setUp();
    void device.reset();
    path.setLogged(true);
    driver.pci.status = 0;
    driver.start();
    expect([path.name, first.backends]).toEqual(["inProcess", [null, null]]);
  });
});
