/**
 * What a frame costs through virtio-net in the launcher's process, from the guest's ring to a TAP and back, beside what
 * the system call alone costs on the same TAP. Needs root: it makes a network namespace with two TAPs on a bridge.
 *
 *   node --expose-gc hack/bench/virtio-net.ts [--frames N]
 *
 * Prints a table on stderr and JSON on stdout: medians of five runs of N frames each, in turn, microseconds a frame. What
 * the kernel does with a frame behind the TAP (bridge, other TAP) is part of sending it.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { gpa } from "../../launcher/src/memory/gpa.ts";
import { ipv4Bytes, macBytes } from "../../launcher/src/net/addresses.ts";
import { checksum } from "../../launcher/src/net/build-frame.ts";
import { FrameFilter } from "../../launcher/src/net/frame-filter.ts";
import { openTap, TapQueue } from "../../launcher/src/net/tap.ts";
import { TestNamespace } from "../../launcher/src/net/testing/network-namespace.ts";
import { readFrame, writeFrame } from "../../launcher/src/sys/frame-io.ts";
import { IovecBlock } from "../../launcher/src/sys/iovec.ts";
import { Mapping } from "../../launcher/src/sys/mapping.ts";
import { NET_QUEUE_SIZE, NetDevice } from "../../launcher/src/virtio/net/device.ts";
import { InProcessPath } from "../../launcher/src/virtio/net/in-process-path.ts";
import { NetDriver } from "../../launcher/src/virtio/net/testing/net-driver.ts";
import { medians, table } from "./statistics.ts";

const RUNS = 5;
const BATCH = 16;
const HEADER_BYTES = 12;
const PAGE_BYTES = 4096;
const RECEIVE_BUFFER_BYTES = 2048;
const RECEIVE_BUFFERS = 64;
/** TUN_F_CSUM, TSO4 and TSO6: frames of segments go from TAP to TAP as they are. */
const OFFLOADS = 0x07;
const GUEST = { mac: macBytes("02:5a:00:12:34:56"), ip: ipv4Bytes("10.0.2.2") };
const PEER = { mac: macBytes("02:5a:00:12:34:57"), ip: ipv4Bytes("10.0.2.3") };
type End = typeof GUEST;

interface Size {
  readonly name: string;
  readonly lengthBytes: number;
  /** 0 for a frame that is none of many segments. */
  readonly segmentBytes: number;
}

const sizes: readonly Size[] = [
  { name: "64 B", lengthBytes: 64, segmentBytes: 0 },
  { name: "1514 B", lengthBytes: 1514, segmentBytes: 0 },
  { name: "60 kB of segments", lengthBytes: 60_000, segmentBytes: 1448 },
];

const { values } = parseArgs({ options: { frames: { type: "string", default: "20000" } } });
const frames = Number(values.frames);
if (!(frames >= BATCH)) throw new RangeError(`--frames ${BATCH} or more`);

/** Header and frame, of UDP or of TCP in segments. A bridge may look at the IPv4 header. */
function frameOf({ lengthBytes, segmentBytes }: Size, source: End, target: End): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + lengthBytes);
  const header = new DataView(bytes.buffer);
  const frame = bytes.subarray(HEADER_BYTES);
  if (segmentBytes > 0) {
    bytes.set([1, 1]);
    header.setUint16(4, segmentBytes, true);
    header.setUint16(6, 34, true);
    header.setUint16(8, 16, true);
    frame[46] = 0x50;
  }
  frame.set(target.mac, 0);
  frame.set(source.mac, 6);
  frame.set([8, 0, 0x45, 0, (lengthBytes - 14) >>> 8, (lengthBytes - 14) & 0xff], 12);
  frame.set([64, segmentBytes > 0 ? 6 : 17], 22);
  frame.set(source.ip, 26);
  frame.set(target.ip, 30);
  const sum = checksum(frame.subarray(14, 34));
  frame.set([sum >>> 8, sum & 0xff], 24);
  return bytes;
}

/** Two TAPs on a bridge, used without any device. */
class Taps implements Disposable {
  readonly near: number;
  readonly far: number;
  readonly #space = new TestNamespace();
  readonly #memory = Mapping.anonymous(128 * 1024);
  readonly #iovecs = new IovecBlock(1);

  constructor() {
    this.#space.ip("link add br0 type bridge");
    for (const device of ["tap0", "tap1"]) {
      this.#space.ip(`tuntap add dev ${device} mode tap vnet_hdr`);
      this.#space.ip(`link set ${device} master br0 up`);
    }
    this.#space.ip("link set br0 up");
    const [near, far] = this.#space.within(() => ["tap0", "tap1"].flatMap((device) => openTap(device, 1)));
    if (!near || !far) throw new Error("no TAPs");
    for (const fd of [near, far]) new TapQueue(fd).setOffloads(OFFLOADS);
    [this.near, this.far] = [near.fd, far.fd];
  }

  /** The bridge forwards once it has noticed that its ports have a cable. */
  async settle(): Promise<void> {
    const small = { name: "", lengthBytes: 64, segmentBytes: 0 };
    for (const [from, to, frame] of [
      [this.near, this.far, frameOf(small, GUEST, PEER)],
      [this.far, this.near, frameOf(small, PEER, GUEST)],
    ] as const) {
      const giveUpAt = performance.now() + 10_000;
      do {
        if (performance.now() > giveUpAt) throw new Error("the bridge forwards nothing");
        await delay(10);
        this.send(from, frame);
      } while (this.drain(to) < BATCH);
    }
  }

  /** A batch of one frame. */
  send(fd: number, frame: Uint8Array): void {
    new Uint8Array(this.#memory.buffer).set(frame);
    this.#iovecs.set(0, this.#memory.hostAddress, frame.length);
    for (let i = 0; i < BATCH; i++)
      if (writeFrame(fd, this.#iovecs, 0, 1) < 0) throw new Error("the TAP refuses a frame");
  }

  /** Takes all frames; answers how many. */
  drain(fd: number): number {
    this.#iovecs.set(0, this.#memory.hostAddress, this.#memory.sizeBytes);
    let count = 0;
    while (readFrame(fd, this.#iovecs, 0, 1) > 0) count++;
    return count;
  }

  [Symbol.dispose](): void {
    this.#space[Symbol.dispose]();
  }
}

/** The launcher's device on the near TAP, with a driver. */
class Device implements Disposable {
  readonly #taps: Taps;
  readonly #path: InProcessPath;
  readonly #device: NetDevice;
  readonly #driver: NetDriver;
  /** Receive buffers by their chain. */
  readonly #buffers: readonly number[];

  constructor(taps: Taps, isFiltered: boolean) {
    this.#taps = taps;
    const rules = { drops: true, serves: true, standsForRouter: false };
    const filter = isFiltered ? new FrameFilter({ mac: GUEST.mac, ipv4: GUEST.ip }, rules) : undefined;
    const queue = { fd: taps.near, setOffloads: () => {}, setAttached: () => {}, setCarrier: () => {} };
    const parts = { taps: [queue], chainLimit: NET_QUEUE_SIZE, mtuBytes: 1500, filter, answer: () => null };
    this.#path = new InProcessPath(parts);
    const { mac } = GUEST;
    this.#device = new NetDevice({ name: "bench", mac, mtuBytes: 1500, pairs: 1, link: "up", path: this.#path });
    this.#driver = new NetDriver(this.#device);
    this.#driver.start();
    this.#buffers = this.#driver.offer(new Array(RECEIVE_BUFFERS).fill(RECEIVE_BUFFER_BYTES));
  }

  send(size: Size): number {
    const frame = frameOf(size, GUEST, PEER);
    const address = this.#driver.allocate(frame.length);
    this.#driver.pci.memory.write(gpa(address), frame);
    const parts = Array.from({ length: Math.ceil(frame.length / PAGE_BYTES) }, (_, i) => ({
      address: address + i * PAGE_BYTES,
      lengthBytes: Math.min(PAGE_BYTES, frame.length - i * PAGE_BYTES),
    }));
    const ring = this.#driver.ring(1);
    const batch = Math.min(BATCH, Math.floor(ring.layout.size / parts.length));
    let ms = 0;
    for (let sent = 0; sent < frames; sent += batch) {
      for (let i = 0; i < batch; i++) ring.add(parts);
      ms += timed(() => this.#device.serve(1));
      ring.takeUsed();
      this.#taps.drain(this.#taps.far);
    }
    return ms;
  }

  receive(size: Size): number {
    const frame = frameOf(size, PEER, GUEST);
    const ring = this.#driver.ring(0);
    let ms = 0;
    for (let sent = 0; sent < frames; sent += BATCH) {
      this.#taps.send(this.#taps.far, frame);
      for (let got = 0; got < BATCH; ) {
        const before = this.#path.use().receive.packets;
        ms += timed(() => this.#device.serve(0));
        got += this.#path.use().receive.packets - before;
        for (const { head } of ring.takeUsed())
          ring.add([{ address: this.#buffers[head] ?? 0, lengthBytes: RECEIVE_BUFFER_BYTES, writable: true }]);
      }
    }
    return ms;
  }

  [Symbol.dispose](): void {
    this.#device.reset();
    this.#path[Symbol.dispose]();
    this.#driver[Symbol.dispose]();
  }
}

/** Milliseconds of `act`. */
function timed(act: () => void): number {
  const start = performance.now();
  act();
  return performance.now() - start;
}

function bare(taps: Taps, way: "send" | "receive", size: Size): number {
  const frame = way === "send" ? frameOf(size, GUEST, PEER) : frameOf(size, PEER, GUEST);
  const [from, to] = way === "send" ? [taps.near, taps.far] : [taps.far, taps.near];
  let ms = 0;
  for (let sent = 0; sent < frames; sent += BATCH) {
    const sending = timed(() => taps.send(from, frame));
    const receiving = timed(() => taps.drain(to));
    ms += way === "send" ? sending : receiving;
  }
  return ms;
}

function through(taps: Taps, way: "send" | "receive", isFiltered: boolean, size: Size): number {
  using device = new Device(taps, isFiltered);
  return device[way](size);
}

using taps = new Taps();
await taps.settle();
const ways: readonly (readonly [name: string, run: (size: Size) => number])[] = [
  ["send: the system call alone", (size) => bare(taps, "send", size)],
  ["send: virtio-net", (size) => through(taps, "send", false, size)],
  ["send: virtio-net, filtered", (size) => through(taps, "send", true, size)],
  ["receive: the system call alone", (size) => bare(taps, "receive", size)],
  ["receive: virtio-net", (size) => through(taps, "receive", true, size)],
];
const results = sizes.flatMap((size) => {
  const runs = ways.map((): { us: number }[] => []);
  for (let run = 0; run <= RUNS; run++)
    ways.forEach(([, act], i) => {
      globalThis.gc?.();
      const us = (act(size) * 1000) / frames;
      if (run > 0) runs[i]?.push({ us });
    });
  return ways.map(([name], i) => ({ frame: size.name, name, ...medians(runs[i] ?? [], 2) }));
});
console.error(table(results));
console.log(JSON.stringify({ results }, null, 2));
