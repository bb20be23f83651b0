import { afterEach, describe, expect, it } from "@jest/globals";
import type { InterfaceLimits } from "../../../api/machine-config.ts";
import { gpa } from "../../memory/gpa.ts";
import { macBytes } from "../../net/addresses.ts";
import { FrameFilter } from "../../net/frame-filter.ts";
import { SysError } from "../../sys/errors.ts";
import { FrameWriter } from "../../sys/frame-writer.ts";
import { until } from "../../testing/until.ts";
import { FakePoller } from "../testing/fake-poller.ts";
import { NET_QUEUE_SIZE, NetDevice } from "./device.ts";
import { InProcessPath } from "./in-process-path.ts";
import * as protocol from "./protocol.ts";
import { FakeTap, HEADER_BYTES, NetDriver } from "./testing/net-driver.ts";

const MAC = "02:5a:00:12:34:56";
const IPV4 = Uint8Array.of(10, 0, 2, 2);
const MTU = 1500;

interface Options {
  readonly pairs?: number;
  readonly filtered?: boolean;
  readonly limits?: InterfaceLimits;
  readonly without?: readonly number[];
  readonly answer?: (frame: Uint8Array) => Uint8Array | null;
  readonly start?: boolean;
  readonly poller?: FakePoller;
  readonly writer?: FrameWriter;
}

let open = new DisposableStack();
afterEach(() => {
  open[Symbol.dispose]();
  open = new DisposableStack();
});

function setUp(options: Options = {}) {
  const { pairs = 1, filtered = false, limits, without = [], answer = () => null, start = true } = options;
  const { poller, writer } = options;
  const taps = Array.from({ length: pairs }, () => open.use(new FakeTap()));
  const identity = { mac: macBytes(MAC), ipv4: IPV4 };
  const filter = filtered
    ? new FrameFilter(identity, { drops: true, serves: true, standsForRouter: false })
    : undefined;
  const parts = { taps, chainLimit: NET_QUEUE_SIZE, mtuBytes: MTU, limits, filter, poller, writer, answer };
  const path = open.use(new InProcessPath(parts));
  const isPolled = poller !== undefined;
  const arrivals: string[] = [];
  const device = new NetDevice({
    name: "default",
    mac: macBytes(MAC),
    mtuBytes: MTU,
    pairs,
    link: "up",
    path,
    isPolled,
    onArrival: () => void arrivals.push(device.link),
  });
  const driver = open.use(new NetDriver(device, poller));
  if (start) driver.start(without);
  open.defer(() => void device.reset());
  const tap = taps[0];
  if (!tap) throw new Error("no TAP");
  return { taps, tap, path, device, driver, arrivals };
}

/** An Ethernet frame of `lengthBytes` whose payload tells where it is from. */
function frameOf(lengthBytes: number, { source = MAC, etherType = 0x88b5, seed = 1 } = {}): Uint8Array {
  const frame = Uint8Array.from({ length: lengthBytes }, (_, i) => (i * 7 + seed) & 0xff);
  frame.set(macBytes("02:00:00:00:00:01"), 0);
  frame.set(macBytes(source), 6);
  frame.set([etherType >>> 8, etherType & 0xff], 12);
  return frame;
}

function header(fields: { flags?: number; gsoType?: number; gsoSize?: number; start?: number; offset?: number }) {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES));
  view.setUint8(0, fields.flags ?? 0);
  view.setUint8(1, fields.gsoType ?? 0);
  view.setUint16(4, fields.gsoSize ?? 0, true);
  view.setUint16(6, fields.start ?? 0, true);
  view.setUint16(8, fields.offset ?? 0, true);
  return new Uint8Array(view.buffer);
}

const refuses = (): never => {
  throw new SysError("io_setup", 1);
};

const le16 = (value: number) => Uint8Array.of(value & 0xff, value >>> 8);

describe("a network device's configuration", () => {
  it("tells MAC, link, MTU and queue pairs", () => {
    const { driver } = setUp({ pairs: 4 });
    expect(Array.from({ length: 6 }, (_, i) => driver.pci.deviceConfig(i, 1))).toEqual([2, 0x5a, 0, 0x12, 0x34, 0x56]);
    expect(driver.pci.deviceConfig(6, 2)).toBe(1);
    expect(driver.pci.deviceConfig(8, 2)).toBe(4);
    expect(driver.pci.deviceConfig(10, 2)).toBe(MTU);
    expect(driver.pci.rings).toHaveLength(9);
  });

  it("offers several queues only where there are several", () => {
    expect(setUp().driver.pci.offeredFeatures().has(protocol.VIRTIO_NET_F_MQ)).toBe(false);
    expect(setUp({ pairs: 2 }).driver.pci.offeredFeatures().has(protocol.VIRTIO_NET_F_MQ)).toBe(true);
  });
});

describe("a guest that sends", () => {
  it.each([
    ["in one piece", 10_000],
    ["with its header apart", 12],
    ["in small pieces", 17],
    ["two bytes each", 2],
  ])("has its frames out unchanged, %s", (_how, parts) => {
    const { driver, tap } = setUp();
    const frame = frameOf(60);
    driver.send(frame, { parts });
    expect(tap.received().map((bytes) => bytes.slice(HEADER_BYTES))).toEqual([frame]);
    expect(driver.ring(1).takeUsed()).toHaveLength(1);
  });

  it("has frames of segments out with their header, as it negotiated", () => {
    const { driver, tap, path } = setUp();
    const frame = frameOf(60_000, { etherType: 0x0800 });
    const gso = header({ flags: 1, gsoType: 1, gsoSize: 1448, start: 34, offset: 16 });
    driver.send(frame, { header: gso, parts: 4096 });
    expect(tap.received()).toEqual([new Uint8Array(Buffer.concat([gso, frame]))]);
    expect(path.use().transmit).toMatchObject({ packets: 1, bytes: 60_000, errors: 0 });
  });

  it.each([
    ["shorter than its header", new Uint8Array(0), header({}).slice(0, 5), []],
    ["a runt", frameOf(64).slice(0, 13), header({}), []],
    ["a giant that is no frame of segments", frameOf(MTU + 14 + 9), header({}), []],
    ["larger than any frame of segments", frameOf(65_600), header({ flags: 1, gsoType: 1, gsoSize: 1448 }), []],
    ["segments of size 0", frameOf(3000), header({ flags: 1, gsoType: 1, gsoSize: 0 }), []],
    ["segments without a checksum", frameOf(3000), header({ gsoType: 1, gsoSize: 1448 }), []],
    ["segments of an unknown kind", frameOf(3000), header({ flags: 1, gsoType: 3, gsoSize: 1448 }), []],
    ["segments that were not negotiated", frameOf(3000), header({ flags: 1, gsoType: 1, gsoSize: 1448 }), [11]],
    ["a checksum that was not negotiated", frameOf(64), header({ flags: 1, start: 34, offset: 6 }), [0]],
    ["a checksum behind the frame", frameOf(64), header({ flags: 1, start: 60, offset: 3 }), []],
    ["a checksum far behind the frame", frameOf(64), header({ flags: 1, start: 0xffff, offset: 0xffff }), []],
  ])("loses what is not sound, and nothing else: %s", (_what, frame, head, without) => {
    const { driver, tap, path } = setUp({ without });
    driver.send(frame, { header: head, parts: 4096 });
    driver.send(frameOf(64));
    expect(tap.received()).toHaveLength(1);
    expect(path.use().transmit).toMatchObject({ packets: 1, errors: 1 });
    expect(driver.ring(1).takeUsed()).toHaveLength(2);
    expect(driver.pci.faults).toEqual([]);
  });

  it("is not kept when the other end has no room: its frames are lost and counted", () => {
    const { driver, tap, path } = setUp();
    for (let i = 0; i < 400; i++) {
      driver.send(frameOf(64));
      driver.ring(1).takeUsed();
    }
    const { packets, dropped } = path.use().transmit;
    expect([packets + dropped, tap.received().length]).toEqual([400, packets]);
    expect(dropped).toBeGreaterThan(0);
  });

  it("sends nothing in another's name, and what is checked is what is sent", () => {
    const { driver, tap, path } = setUp({ filtered: true });
    driver.send(frameOf(64, { source: "02:5a:00:12:34:57", etherType: 0x0800 }));
    const ip = frameOf(64, { etherType: 0x0800 });
    ip.set([0x45, 0, 0, 50, 0, 0, 0, 0, 64, 1], 14);
    ip.set([10, 0, 2, 3], 26);
    driver.send(ip);
    ip.set(IPV4, 26);
    driver.send(ip);
    expect(tap.received().map((bytes) => bytes.slice(HEADER_BYTES))).toEqual([ip]);
    expect(path.use().transmit).toMatchObject({ packets: 1, dropped: 2 });
  });

  it("cannot have the kernel write a checksum over what was checked", () => {
    const { driver, tap } = setUp({ filtered: true });
    const ip = frameOf(64, { etherType: 0x0800 });
    ip.set([0x45, 0, 0, 50, 0, 0, 0, 0, 64, 1], 14);
    ip.set(IPV4, 26);
    driver.send(ip, { header: header({ flags: 1, start: 20, offset: 8 }) });
    expect(tap.received()).toEqual([]);
    driver.send(ip, { header: header({ flags: 1, start: 34, offset: 2 }) });
    expect(tap.received()).toHaveLength(1);
  });

  it("has no more than its limit of packets at once, and the rest in time", async () => {
    const { driver, tap, path } = setUp({ limits: { packetsPerSecond: 5 } });
    for (let i = 0; i < 3; i++) driver.send(frameOf(64));
    expect(path.use().transmit.packets).toBeLessThan(3);
    await until(() => path.use().transmit.packets === 3);
    expect(tap.received()).toHaveLength(3);
  });
});

describe.each([
  ["with one call", () => new FrameWriter()],
  ["with a call each", () => new FrameWriter(refuses)],
])("a guest that sends many frames at once, which the kernel gets %s,", (_how, writer) => {
  /** An IPv4 packet from `source` whose end, far behind what a filter looks at, tells which it is. */
  const packet = (number: number, source: Uint8Array = IPV4) => {
    const frame = frameOf(400, { etherType: 0x0800 });
    frame.set([0x45, 0, 1, 0x82, 0, 0, 0, 0, 64, 1], 14);
    frame.set(source, 26);
    frame.set([number], 50);
    frame.set([number], 399);
    return frame;
  };
  const bodies = (frames: readonly Uint8Array[]) => frames.map((bytes) => bytes.slice(HEADER_BYTES));

  it("has them out whole and in order, each behind a header of its own", () => {
    const { driver, tap, path } = setUp({ writer: writer() });
    const headerOf = (number: number) => header({ flags: 1, start: 34, offset: number });
    const frames = Array.from({ length: 50 }, (_, i) => packet(i));
    frames.forEach((frame, i) => {
      driver.put(frame, { header: headerOf(i) });
    });
    driver.pci.kick(1);
    expect(tap.received()).toEqual(frames.map((frame, i) => new Uint8Array(Buffer.concat([headerOf(i), frame]))));
    expect(path.use().transmit).toEqual({ packets: 50, bytes: 50 * 400, dropped: 0, errors: 0 });
    expect(driver.ring(1).takeUsed()).toHaveLength(50);
  });

  it("loses those of them that are not sound or in another's name, and no other", () => {
    const answered: number[] = [];
    const answer = (frame: Uint8Array) => {
      answered.push(frame[50] ?? -1);
      return null;
    };
    const { driver, tap, path } = setUp({ filtered: true, writer: writer(), answer });
    for (let i = 0; i < 40; i++) {
      if (i % 4 === 0) driver.put(packet(i, Uint8Array.of(10, 0, 2, 3)));
      else if (i % 4 === 1) driver.put(packet(i), { header: header({ flags: 1, start: 399, offset: 2 }) });
      else if (i % 10 === 2) {
        const question = packet(i);
        question.set([17], 23);
        question.set([0, 68, 0, 67], 34);
        driver.put(question);
      } else driver.put(packet(i));
    }
    driver.pci.kick(1);
    const sent = Array.from({ length: 40 }, (_, i) => i).filter((i) => i % 4 > 1 && i % 10 !== 2);
    expect(bodies(tap.received())).toEqual(sent.map((i) => packet(i)));
    expect(answered).toEqual([2, 22]);
    expect(path.use().transmit).toMatchObject({ packets: sent.length, dropped: 10, errors: 10 });
    expect(driver.ring(1).takeUsed()).toHaveLength(40);
  });

  it("has out of each what was checked, whatever it makes of its memory meanwhile", () => {
    const made = writer();
    const { driver, tap } = setUp({ filtered: true, writer: made });
    const addresses = Array.from({ length: 20 }, (_, i) => driver.put(packet(i)));
    const write = made.write.bind(made);
    // All of a batch have been checked by then, and none has been sent.
    made.write = (...batch) => {
      for (const address of addresses)
        driver.pci.memory.write(gpa(address + HEADER_BYTES + 26), Uint8Array.of(9, 9, 9, 9));
      write(...batch);
    };
    driver.pci.kick(1);
    // Those of the first batch; the others come to be checked when their memory is another's already.
    expect(bodies(tap.received())).toEqual(Array.from({ length: 16 }, (_, i) => packet(i)));
  });

  it("has them out in however many pieces they are", () => {
    const { driver, tap } = setUp({ writer: writer() });
    const address = driver.allocate(HEADER_BYTES + 400);
    driver.pci.memory.write(address, Buffer.concat([new Uint8Array(HEADER_BYTES), packet(7)]));
    // All but the first behind what is copied.
    const parts = [{ address, lengthBytes: 212 }];
    for (let at = 212; at < HEADER_BYTES + 400; at++) parts.push({ address: gpa(address + at), lengthBytes: 1 });
    for (let i = 0; i < 20; i++) driver.ring(1).addIndirect(driver.allocate(16 * parts.length), parts);
    driver.pci.kick(1);
    expect(bodies(tap.received())).toEqual(new Array(20).fill(packet(7)));
  });

  it("has those out that came before what breaks the ring, and nothing of them later", () => {
    const { driver, tap } = setUp({ writer: writer() });
    for (let i = 0; i < 5; i++) driver.put(packet(i));
    driver.ring(1).makeAvailable(1000);
    driver.pci.kick(1);
    expect(driver.pci.faults).toHaveLength(1);
    expect(bodies(tap.received())).toEqual(Array.from({ length: 5 }, (_, i) => packet(i)));
    driver.pci.status = 0;
    driver.start();
    driver.send(packet(9));
    expect(bodies(tap.received())).toEqual([packet(9)]);
  });

  it("loses those for which there is no room, and counts them", () => {
    const { driver, tap, path } = setUp({ writer: writer() });
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 20; i++) driver.put(frameOf(64));
      driver.pci.kick(1);
      driver.ring(1).takeUsed();
    }
    const { packets, dropped, errors } = path.use().transmit;
    expect([packets + dropped, errors, tap.received().length]).toEqual([400, 0, packets]);
    expect(dropped).toBeGreaterThan(0);
  });
});

describe("a guest that receives", () => {
  it("finds a frame in one buffer, with a count of one", async () => {
    const { driver, tap, path } = setUp();
    const [address = 0 as never] = driver.offer([2048]);
    const frame = frameOf(300);
    tap.send(frame);
    expect(await driver.used(1)).toEqual([{ head: 0, writtenBytes: 312 }]);
    expect(driver.bytes(address, HEADER_BYTES)[10]).toBe(1);
    expect(driver.bytes(address, 312).slice(HEADER_BYTES)).toEqual(frame);
    expect(path.use().receive).toMatchObject({ packets: 1, bytes: 300, dropped: 0, errors: 0 });
    expect(driver.pci.interrupts).toContain(1);
  });

  it("finds a large frame in as many buffers as it takes, all at once", async () => {
    const { driver, tap } = setUp();
    const sizes = [100, 1000, 2000, 50, 4096];
    const addresses = driver.offer(sizes);
    const frame = frameOf(3000);
    tap.send(frame);
    const used = await driver.used(3);
    expect(used.map(({ writtenBytes }) => writtenBytes)).toEqual([100, 1000, 1912]);
    const [first] = addresses;
    expect(first && driver.bytes(first, HEADER_BYTES)[10]).toBe(3);
    const whole = Buffer.concat(addresses.slice(0, 3).map((at, i) => driver.bytes(at, used[i]?.writtenBytes ?? 0)));
    expect(new Uint8Array(whole.subarray(HEADER_BYTES))).toEqual(frame);
  });

  it("has the kernel's writes to its memory in the dirty bitmap, and no more", async () => {
    const { driver, tap } = setUp();
    const { dirty } = driver.pci.memory;
    driver.allocate(4096 - (driver.allocate(0) % 4096));
    const [first = 0, second = 0, third = 0] = driver.offer([4096, 4096, 4096]);
    dirty.enable();
    dirty.take();
    tap.send(frameOf(5000));
    await driver.used(2);
    const words = dirty.take();
    const isDirty = (address: number) => ((words[address >>> 17] ?? 0) >>> ((address >>> 12) & 31)) & 1;
    expect([first, second, third].map(isDirty)).toEqual([1, 1, 0]);
  });

  it("finds a frame whole that came before there was room for all of it", async () => {
    const { driver, tap, path } = setUp();
    const addresses = driver.offer([500, 700]);
    const frame = frameOf(5000, { seed: 9 });
    tap.send(frame);
    // It is read, and part of it waits.
    await until(() => driver.ring(0).freeDescriptors < 64 && tap.received().length === 0);
    await new Promise((turn) => setTimeout(turn, 5));
    expect(driver.ring(0).takeUsed()).toEqual([]);
    addresses.push(...driver.offer([2000, 2000]));
    const used = await driver.used(4);
    const whole = Buffer.concat(addresses.map((at, i) => driver.bytes(at, used[i]?.writtenBytes ?? 0)));
    expect(new Uint8Array(whole.subarray(HEADER_BYTES))).toEqual(frame);
    expect(path.use().receive).toMatchObject({ packets: 1, dropped: 0 });
  });

  it("loses a frame for which its whole ring has no room, and gets the next", async () => {
    const { driver, tap, path } = setUp();
    driver.offer(new Array(64).fill(64));
    tap.send(frameOf(10_000));
    tap.send(frameOf(40, { seed: 3 }));
    expect(await driver.used(1)).toEqual([{ head: 0, writtenBytes: 52 }]);
    expect(path.use().receive).toMatchObject({ packets: 1, dropped: 1 });
  });

  it("without mergeable buffers finds a frame in one, or loses it", async () => {
    const { driver, tap, path } = setUp({ without: [protocol.VIRTIO_NET_F_MRG_RXBUF] });
    const [address = 0 as never] = driver.offer([600, 600]);
    tap.send(frameOf(1000));
    tap.send(frameOf(500, { seed: 4 }));
    expect(await driver.used(1)).toEqual([{ head: 0, writtenBytes: 512 }]);
    expect(driver.bytes(address, 512).slice(HEADER_BYTES)).toEqual(frameOf(500, { seed: 4 }));
    expect(path.use().receive).toMatchObject({ packets: 1, dropped: 1 });
  });

  it("gets frames that came while it had no buffers", async () => {
    const { driver, tap } = setUp();
    for (let i = 0; i < 5; i++) tap.send(frameOf(100 + i));
    await new Promise((turn) => setTimeout(turn, 5));
    driver.offer(new Array(8).fill(256));
    expect((await driver.used(5)).map(({ writtenBytes }) => writtenBytes - HEADER_BYTES)).toEqual([
      100, 101, 102, 103, 104,
    ]);
  });

  it("goes on through many thousands of frames", async () => {
    const { driver, tap } = setUp();
    const addresses = driver.offer(new Array(32).fill(128));
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 8; i++) tap.send(frameOf(64, { seed: round + i }));
      for (const { head } of await driver.used(8))
        driver.ring(0).add([{ address: addresses[head] ?? 0, lengthBytes: 128, writable: true }]);
    }
    expect(driver.pci.faults).toEqual([]);
  });

  it("fails its device alone with a buffer that has no room for a header", async () => {
    const { driver, tap } = setUp();
    driver.offer([11]);
    tap.send(frameOf(64));
    await until(() => driver.pci.faults.length > 0);
    expect(driver.pci.faults[0]?.message).toMatch(/11 bytes has no room for a header/);
    expect(driver.pci.status & 0x40).toBe(0x40);
  });

  it("is answered by the launcher's services, which no frame leaves for", async () => {
    const reply = frameOf(90, { source: "02:00:00:00:00:01" });
    const { driver, tap } = setUp({ filtered: true, answer: () => reply });
    const [address = 0 as never] = driver.offer([512]);
    const request = frameOf(300, { etherType: 0x0800 });
    request.set([0x45, 0, 1, 0x1e, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67], 14);
    driver.send(request);
    expect(await driver.used(1)).toEqual([{ head: 0, writtenBytes: 102 }]);
    expect(driver.bytes(address, 102).slice(HEADER_BYTES)).toEqual(reply);
    expect(tap.received()).toEqual([]);
  });
});

describe("an interface that is looked at", () => {
  const setUpPolled = () => {
    const poller = new FakePoller();
    const { driver, tap, ...made } = setUp({ poller });
    /** As a driver does: rings where it is asked to. Answers whether it was. */
    const send = (frame: Uint8Array) => {
      const address = driver.allocate(HEADER_BYTES + frame.length);
      driver.pci.memory.write(address, Buffer.concat([new Uint8Array(HEADER_BYTES), frame]));
      driver.ring(1).add([{ address, lengthBytes: HEADER_BYTES + frame.length }]);
      const isRung = driver.ring(1).takeKick();
      if (isRung) driver.pci.kick(1);
      return isRung;
    };
    return { poller, driver, tap, send, ...made };
  };

  it("is rung for a frame, and then found to have more, and answers", () => {
    const { poller, driver, tap, send } = setUpPolled();
    driver.offer([256, 256]);
    expect([send(frameOf(64)), send(frameOf(65))]).toEqual([true, false]);
    expect(tap.received()).toHaveLength(1);
    tap.send(frameOf(64, { seed: 3 }));
    // No turn of the event loop in between: no event can have told.
    poller.look();
    expect(tap.received()).toHaveLength(1);
    expect(driver.ring(0).takeUsed()).toEqual([{ head: 0, writtenBytes: HEADER_BYTES + 64 }]);
  });

  it("is looked at once a frame has come, and told of frames by events when nobody looks any more", async () => {
    const { poller, driver, tap } = setUpPolled();
    driver.offer([256, 256, 256]);
    tap.send(frameOf(64));
    await driver.used(1);
    expect(poller.sources.size).toBe(1);
    tap.send(frameOf(65));
    poller.look();
    expect(driver.ring(0).takeUsed()).toHaveLength(1);
    poller.rest();
    tap.send(frameOf(66));
    await driver.used(1);
  });

  it("reads nothing where the guest has no room", () => {
    const { poller, driver, tap, send } = setUpPolled();
    send(frameOf(64));
    tap.send(frameOf(64));
    for (let i = 0; i < 3; i++) poller.look();
    expect(driver.ring(0).takeUsed()).toEqual([]);
    driver.offer([256]);
    poller.look();
    expect(driver.ring(0).takeUsed()).toHaveLength(1);
  });

  it("is not looked at once its driver is gone", async () => {
    const { poller, driver, tap, send } = setUpPolled();
    driver.offer([256]);
    tap.send(frameOf(64));
    await driver.used(1);
    send(frameOf(64));
    expect(poller.sources.size).toBe(2);
    driver.pci.status = 0;
    expect(poller.sources.size).toBe(0);
  });
});

describe("a guest that gives commands", () => {
  it("has frames on as many pairs as it asks for", async () => {
    const { driver, taps } = setUp({ pairs: 4 });
    expect(taps.map(({ isAttached }) => isAttached)).toEqual([true, false, false, false]);
    expect(driver.control(4, 0, le16(3))).toBe(0);
    expect(taps.map(({ isAttached }) => isAttached)).toEqual([true, true, true, false]);
    driver.offer([256], 4);
    taps[2]?.send(frameOf(64));
    expect(await driver.used(1, 4)).toHaveLength(1);
    driver.send(frameOf(64), { queue: 5 });
    expect(taps[2]?.received()).toHaveLength(1);
    expect(driver.control(4, 0, le16(1))).toBe(0);
    expect(taps.map(({ isAttached }) => isAttached)).toEqual([true, false, false, false]);
  });

  it.each([
    ["no pairs", 4, 0, le16(0)],
    ["too many pairs", 4, 0, le16(5)],
    ["a short command", 4, 0, Uint8Array.of(1)],
    ["a long command", 4, 0, new Uint8Array(100)],
    ["an unknown class", 77, 0, le16(1)],
    ["an unknown command", 4, 9, le16(1)],
    ["an offload that was not negotiated", 5, 0, Uint8Array.of(0, 0, 0, 0x10, 0, 0, 0, 0)],
  ])("is refused %s", (_what, kind, command, data) => {
    const { driver } = setUp({ pairs: 4 });
    expect(driver.control(kind, command, data)).toBe(1);
    expect(driver.control(4, 0, le16(2))).toBe(0);
    expect(driver.pci.faults).toEqual([]);
  });

  it("finds the control queue behind the first pair when it knows of no more", () => {
    const { driver, tap } = setUp({ pairs: 2, without: [protocol.VIRTIO_NET_F_MQ] });
    expect(driver.control(5, 0, new Uint8Array(8), 2)).toBe(0);
    expect(tap.offloads.at(-1)).toBe(0);
  });

  it("gets from the TAP unfinished what it takes unfinished", () => {
    const all = setUp();
    expect(all.tap.offloads).toEqual([0x0f]);
    expect(all.driver.control(5, 0, Uint8Array.of(0x82, 0, 0, 0, 0, 0, 0, 0))).toBe(0);
    expect(all.tap.offloads).toEqual([0x0f, 0x03]);
    const plain = setUp({ without: [protocol.VIRTIO_NET_F_GUEST_CSUM] });
    expect(plain.tap.offloads).toEqual([0]);
  });
});

describe("a link", () => {
  it("that goes down is seen by the guest, and carries nothing", async () => {
    const { driver, device, tap, path } = setUp();
    driver.offer([256, 256]);
    device.setLink("down");
    expect(driver.pci.deviceConfig(6, 2)).toBe(0);
    expect(driver.pci.interrupts).toContain(0);
    expect(tap.hasCarrier).toBe(false);
    driver.send(frameOf(64));
    tap.send(frameOf(64));
    await until(() => path.use().receive.dropped === 1);
    expect(tap.received()).toEqual([]);
    expect(path.use().transmit).toMatchObject({ packets: 0, dropped: 1 });
    device.setLink("up");
    tap.send(frameOf(70));
    expect(await driver.used(1)).toEqual([{ head: 0, writtenBytes: 82 }]);
  });

  it("that comes up asks the guest to make itself known, until it says that it has", () => {
    const { driver, device } = setUp();
    device.setLink("down");
    device.setLink("up");
    expect(driver.pci.deviceConfig(6, 2)).toBe(3);
    expect(driver.control(3, 0, new Uint8Array(0))).toBe(0);
    expect(driver.pci.deviceConfig(6, 2)).toBe(1);
  });
});

describe("a guest that comes from another launcher", () => {
  /** Its interface here, held; `before` is done to the one that it had there. */
  async function moved(options: Options = {}, before: (there: ReturnType<typeof setUp>) => void = () => {}) {
    const there = setUp(options);
    before(there);
    await there.driver.pci.transport.hold();
    const here = setUp({ ...options, start: false });
    here.driver.pci.transport.restore(there.driver.pci.transport.save(), 1);
    const asked = () => ({ status: here.driver.pci.deviceConfig(6, 2), interrupts: here.driver.pci.interrupts });
    return { ...here, there, asked };
  }
  const CONFIGURATION = 0;

  it("is asked to make itself known once it goes on, and its network is told", async () => {
    const { asked, arrivals, driver, device } = await moved();
    expect([asked().interrupts, arrivals]).toEqual([[], []]);
    driver.pci.transport.release();
    expect([asked(), arrivals]).toEqual([{ status: 3, interrupts: [CONFIGURATION] }, ["up"]]);
    driver.pci.transport.release();
    expect([asked(), arrivals]).toEqual([{ status: 3, interrupts: [CONFIGURATION] }, ["up"]]);
    device.setLink("down");
    expect(asked().status).toBe(0);
  });

  it("is told of to its network alone, where it cannot make itself known", async () => {
    const { asked, arrivals, driver } = await moved({ without: [protocol.VIRTIO_NET_F_GUEST_ANNOUNCE] });
    driver.pci.transport.release();
    expect([asked(), arrivals]).toEqual([{ status: 1, interrupts: [] }, ["up"]]);
  });

  it("is not asked, nor told of, while its cable is pulled, but when that is back", async () => {
    const { asked, arrivals, driver, device } = await moved({}, (there) => there.device.setLink("down"));
    driver.pci.transport.release();
    expect([asked().status, arrivals]).toEqual([0, []]);
    device.setLink("up");
    expect(asked().status).toBe(3);
  });

  it("is not asked where it goes on in the launcher that it was in", async () => {
    const { there } = await moved();
    there.driver.pci.transport.release();
    expect([there.driver.pci.deviceConfig(6, 2), there.driver.pci.interrupts, there.arrivals]).toEqual([1, [], []]);
  });
});

describe("a reset", () => {
  it("takes the frames from the driver, and a new driver gets new ones", async () => {
    const { driver, tap } = setUp();
    driver.offer([256]);
    driver.pci.status = 0;
    tap.send(frameOf(64));
    await new Promise((turn) => setTimeout(turn, 5));
    expect(driver.ring(0).takeUsed()).toEqual([]);
    driver.start();
    driver.offer([256]);
    expect(await driver.used(1)).toHaveLength(1);
  });
});
