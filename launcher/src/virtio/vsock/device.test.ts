import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import fc from "fast-check";
import { listenForVsock } from "../../control/vsock-listener.ts";
import { until } from "../../testing/until.ts";
import { WINDOW_BYTES } from "./connection.ts";
import { CONNECTIONS_MAX } from "./connections.ts";
import { VsockDevice } from "./device.ts";
import * as protocol from "./protocol.ts";
import { type GuestOptions, type SentPacket, VsockGuest } from "./testing/vsock-guest.ts";

const {
  VIRTIO_VSOCK_OP_REQUEST: REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE: RESPONSE,
  VIRTIO_VSOCK_OP_RST: RST,
  VIRTIO_VSOCK_OP_SHUTDOWN: SHUTDOWN,
  VIRTIO_VSOCK_OP_RW: RW,
  VIRTIO_VSOCK_OP_CREDIT_UPDATE: CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_CREDIT_REQUEST: CREDIT_REQUEST,
} = protocol;

let directory: string;
let device: VsockDevice;
const servers: Server[] = [];
const sockets: Socket[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "vsock-"));
  const dial = (port: number) => connect({ path: join(directory, `v_${port}`), allowHalfOpen: true });
  device = new VsockDevice({ guestCid: VsockGuest.CID, dial });
});
afterEach(() => {
  device.reset();
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
  rmSync(directory, { recursive: true });
});

/** What one end of a stream has heard. */
class Peer {
  text = "";
  receivedBytes = 0;
  isEnded = false;
  isClosed = false;
  readonly socket: Socket;

  constructor(socket: Socket, { reads = true } = {}) {
    this.socket = socket;
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("end", () => {
      this.isEnded = true;
    });
    socket.on("close", () => {
      this.isClosed = true;
    });
    if (reads) this.read();
  }

  read(): void {
    this.socket.on("data", (bytes: Buffer) => {
      this.receivedBytes += bytes.length;
      if (this.text.length < 1000) this.text += bytes.toString("latin1");
    });
  }
}

/** Something of the host that listens at a port; `next` is its next client. */
function serve(port: number, options = {}): { next(): Promise<Peer> } {
  const waiting: ((peer: Peer) => void)[] = [];
  const come: Peer[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const peer = new Peer(socket, options);
    const wait = waiting.shift();
    if (wait) wait(peer);
    else come.push(peer);
  });
  server.listen(join(directory, `v_${port}`));
  servers.push(server);
  return {
    next: async () => come.shift() ?? (await new Promise<Peer>((resolve) => waiting.push(resolve))),
  };
}

/** A client of the host's socket, which has said where it wants to go. */
async function client(greeting: string): Promise<Peer> {
  const path = join(directory, "v");
  if (!existsSync(path)) servers.push(await listenForVsock((socket, port) => device.connect(socket, port), path));
  const peer = new Peer(connect({ path, allowHalfOpen: true }));
  peer.socket.write(greeting);
  return peer;
}

const ports = { hostPort: 9000, guestPort: 1234 };

/** A stream that the guest has opened to the host's port 9000. */
async function opened(options: GuestOptions & { readonly reads?: boolean } = {}) {
  const service = serve(ports.hostPort, { reads: options.reads ?? true });
  const guest = new VsockGuest(device, options);
  guest.send({ ...ports, operation: REQUEST });
  await guest.packet(RESPONSE);
  return { guest, host: await service.next() };
}

/** As much as the guest may send while the host's side takes nothing: more than a socket holds. Answers how much. */
async function sendWhileTaken(guest: VsockGuest): Promise<number> {
  const chunk = 32 * 1024;
  let forwarded = 0;
  let sent = 0;
  for (; WINDOW_BYTES - (sent - forwarded) >= chunk; sent += chunk) {
    guest.send({ ...ports, operation: RW, payload: Buffer.alloc(chunk, 3) });
    await new Promise((resolve) => setImmediate(resolve));
    for (const { operation, forwardedBytes } of guest.packets.splice(0))
      if (operation === CREDIT_UPDATE) forwarded = forwardedBytes;
  }
  return sent;
}

const counted = () => ({ ...device.use });

describe("a stream that the guest opens", () => {
  it("carries bytes both ways, and ends direction by direction", async () => {
    const { guest, host } = await opened();
    guest.send({ ...ports, operation: RW, payload: Buffer.from("hello from the guest") });
    await until(() => host.text === "hello from the guest");
    host.socket.write("and back");
    expect((await guest.packet(RW)).payload.toString()).toBe("and back");
    guest.send({ ...ports, operation: SHUTDOWN, flags: protocol.VIRTIO_VSOCK_SHUTDOWN_SEND });
    await until(() => host.isEnded);
    host.socket.write("still open this way");
    expect((await guest.packet(RW)).payload.toString()).toBe("still open this way");
    host.socket.end("the last");
    expect((await guest.packet(RW)).payload.toString()).toBe("the last");
    // Both directions have ended: that is confirmed.
    expect(await guest.packet(RST)).toMatchObject(ports);
    await until(() => host.isClosed);
    expect(counted()).toMatchObject({ connections: 0, openedByGuest: 1, transmittedBytes: 20, receivedBytes: 35 });
  });

  it("tells the guest that the host's side has ended, after its last byte", async () => {
    const { guest, host } = await opened();
    host.socket.end("bye");
    await guest.packet(SHUTDOWN).then(({ flags }) => expect(flags).toBe(protocol.VIRTIO_VSOCK_SHUTDOWN_SEND));
    expect(guest.packets.map(({ payload }) => payload.toString())).toEqual(["bye"]);
    guest.send({ ...ports, operation: RW, payload: Buffer.from("wait") });
    await until(() => host.text === "wait");
    guest.send({ ...ports, operation: SHUTDOWN, flags: protocol.SHUTDOWN_BOTH });
    await guest.packet(RST);
    await until(() => host.isEnded && device.use.connections === 0);
  });

  it("is closed by the guest only when the host has all of it", async () => {
    const { guest, host } = await opened({ reads: false });
    const all = await sendWhileTaken(guest);
    guest.send({ ...ports, operation: SHUTDOWN, flags: protocol.SHUTDOWN_BOTH });
    host.read();
    await guest.packet(RST);
    await until(() => host.isEnded);
    expect(host.receivedBytes).toBe(all);
  });

  it("is refused where nobody listens", async () => {
    const guest = new VsockGuest(device);
    guest.send({ ...ports, operation: REQUEST });
    expect(await guest.packet(RST)).toMatchObject(ports);
    expect(counted()).toMatchObject({ connections: 0, refused: 1, openedByGuest: 0 });
  });

  it("is broken off when the host's side breaks", async () => {
    const { guest, host } = await opened();
    host.socket.destroy();
    guest.send({ ...ports, operation: RW, payload: Buffer.from("to nobody") });
    await until(() => guest.packets.some(({ operation }) => operation === RST || operation === SHUTDOWN));
    guest.send({ ...ports, operation: RW, payload: Buffer.from("to nobody") });
    expect(await guest.packet(RST)).toMatchObject(ports);
  });

  it("ends for the host when the guest resets it, without an answer", async () => {
    const { guest, host } = await opened();
    guest.send({ ...ports, operation: RST });
    await until(() => host.isClosed || host.isEnded);
    expect(device.use.connections).toBe(0);
    expect(guest.packets).toEqual([]);
  });

  it("ends with the device's reset, and the guest can open it again", async () => {
    const { guest, host } = await opened();
    guest.driver.status = 0;
    await until(() => host.isEnded);
    guest.start();
    guest.send({ ...ports, operation: REQUEST });
    await guest.packet(RESPONSE);
  });
});

describe("a stream that the host opens", () => {
  it("is confirmed when the guest takes it, and what was said before is not lost", async () => {
    const guest = new VsockGuest(device);
    const host = await client("CONNECT 22\nearly");
    const request = await guest.packet(REQUEST);
    expect(request).toMatchObject({ guestPort: 22 });
    expect(host.text).toBe("");
    const { hostPort, guestPort } = request;
    guest.send({ hostPort, guestPort, operation: RESPONSE });
    await until(() => host.text === `OK ${hostPort}\n`);
    expect((await guest.packet(RW)).payload.toString()).toBe("early");
    guest.send({ hostPort, guestPort, operation: RW, payload: Buffer.from("SSH-2.0") });
    await until(() => host.text === `OK ${hostPort}\nSSH-2.0`);
    expect(counted()).toMatchObject({ connections: 1, openedByHost: 1 });
    host.socket.destroy();
    guest.send({ hostPort, guestPort, operation: RW, payload: Buffer.from("?") });
    guest.send({ hostPort, guestPort, operation: SHUTDOWN, flags: protocol.SHUTDOWN_BOTH });
    await guest.packet(RST);
    await until(() => device.use.connections === 0);
  });

  it("is closed where the guest refuses it, or has no driver", async () => {
    const refused = await client("CONNECT 22\n");
    await until(() => refused.isEnded || refused.isClosed);
    const guest = new VsockGuest(device);
    const other = await client("CONNECT 22\n");
    const { hostPort, guestPort } = await guest.packet(REQUEST);
    guest.send({ hostPort, guestPort, operation: RST });
    await until(() => other.isEnded || other.isClosed);
    expect(other.text).toBe("");
    expect(counted()).toMatchObject({ connections: 0, refused: 1 });
  });

  it.each([
    "CONNECT\n",
    "CONNECT 4294967295\n",
    "CONNECT -1\n",
    "CONNECT 22 \n",
    "GET / HTTP/1.1\r\n\r\n",
    "x".repeat(100),
  ])("is not begun by %j", async (greeting) => {
    const guest = new VsockGuest(device);
    const host = await client(greeting);
    await until(() => host.isEnded || host.isClosed);
    expect(host.text).toBe("");
    expect(guest.packets).toEqual([]);
    expect(device.use.connections).toBe(0);
  });

  it("of several to one port are kept apart", async () => {
    const guest = new VsockGuest(device);
    const hosts: Peer[] = [];
    for (const name of ["a", "b", "c"]) hosts.push(await client(`CONNECT 5\n${name}`));
    await until(() => guest.packets.length === 3);
    for (const { hostPort, guestPort } of guest.packets.splice(0))
      guest.send({ hostPort, guestPort, operation: RESPONSE });
    await until(() => guest.packets.length === 3);
    for (const { hostPort, guestPort, payload } of guest.packets)
      guest.send({ hostPort, guestPort, operation: RW, payload });
    await until(() => hosts.every(({ text }) => /^OK \d+\n[abc]$/.test(text)));
    expect(hosts.map(({ text }) => text.at(-1))).toEqual(["a", "b", "c"]);
    expect(new Set(hosts.map(({ text }) => text.slice(0, -2))).size).toBe(3);
  });
});

describe("credit", () => {
  it("of the guest is never exceeded, is asked for once it is used up, and wakes the stream", async () => {
    const { guest, host } = await opened({ bufferBytes: 10_000 });
    host.socket.write(Buffer.alloc(30_000, 1));
    await guest.packet(CREDIT_REQUEST);
    const sum = () => guest.packets.reduce((bytes, { payload }) => bytes + payload.length, 0);
    expect(sum()).toBe(10_000);
    guest.send({ ...ports, operation: CREDIT_UPDATE, forwardedBytes: 4_000 });
    await until(() => sum() === 14_000);
    await guest.packet(CREDIT_REQUEST);
    guest.send({ ...ports, operation: CREDIT_UPDATE, forwardedBytes: 14_000, bufferBytes: 100_000 });
    await until(() => sum() === 30_000);
    expect(guest.packets.every(({ operation }) => operation === RW)).toBe(true);
  });

  it("of the host is told as its side takes bytes, and not before", async () => {
    const { guest, host } = await opened({ reads: false });
    const sent = await sendWhileTaken(guest);
    expect(sent).toBeGreaterThan(WINDOW_BYTES);
    guest.send({ ...ports, operation: CREDIT_REQUEST });
    const update = await guest.packet(CREDIT_UPDATE);
    expect(update.bufferBytes).toBe(WINDOW_BYTES);
    expect(sent - update.forwardedBytes).toBeGreaterThan(WINDOW_BYTES / 2);
    host.read();
    await until(() => host.receivedBytes === sent);
    guest.send({ ...ports, operation: CREDIT_REQUEST });
    await until(() => guest.packets.some(({ forwardedBytes }) => forwardedBytes === sent));
  });

  it("that the guest does not have ends the stream", async () => {
    const { guest, host } = await opened({ reads: false });
    const send = () => guest.send({ ...ports, operation: RW, payload: Buffer.alloc(60_000) });
    for (let i = 0; i < 20 && device.use.connections === 1; i++) send();
    expect(await guest.packet(RST)).toMatchObject(ports);
    expect(device.use.transmittedBytes).toBeLessThanOrEqual(20 * 60_000);
    host.read();
    await until(() => host.isEnded || host.isClosed);
  });

  it("that the guest makes up stops its stream, and nothing else", async () => {
    const { guest, host } = await opened();
    guest.send({ ...ports, operation: CREDIT_UPDATE, forwardedBytes: 0xffff0000, bufferBytes: 1 });
    host.socket.write("held");
    await guest.packet(CREDIT_REQUEST);
    expect(guest.packets).toEqual([]);
    guest.send({ ...ports, operation: CREDIT_UPDATE });
    expect((await guest.packet(RW)).payload.toString()).toBe("held");
  });
});

describe("a hostile guest", () => {
  const unsound: [string, Partial<SentPacket>][] = [
    ["another type", { operation: RW, type: 2, payload: Buffer.from("x") }],
    ["an unknown operation", { operation: 99 }],
    ["operation 0", { operation: 0 }],
    ["a response that nobody waits for", { operation: RESPONSE }],
    ["more bytes than it has", { operation: RW, payload: Buffer.from("x"), lengthBytes: 5000 }],
    ["4 GiB", { operation: RW, payload: Buffer.from("x"), lengthBytes: 0xffffffff }],
    ["a second request", { operation: REQUEST }],
  ];
  it.each(unsound)("that sends %s loses its stream", async (_, packet) => {
    const { guest, host } = await opened();
    guest.send({ ...ports, operation: RW, ...packet });
    expect(await guest.packet(RST)).toMatchObject(ports);
    await until(() => host.isEnded || host.isClosed);
    expect(device.use.connections).toBe(0);
    expect(guest.driver.faults).toEqual([]);
  });

  it("that sends bytes after it ended its direction loses its stream", async () => {
    const { guest, host } = await opened();
    guest.send({ ...ports, operation: SHUTDOWN, flags: protocol.VIRTIO_VSOCK_SHUTDOWN_SEND });
    guest.send({ ...ports, operation: RW, payload: Buffer.from("x") });
    await guest.packet(RST);
    await until(() => host.isEnded || host.isClosed);
    expect(host.text).toBe("");
  });

  it.each([
    ["in another's name", { sourceCid: 4 }],
    ["for another machine", { destinationCid: 5 }],
    ["for the hypervisor", { destinationCid: 0 }],
    ["from an address beyond all", { sourceCid: 2 ** 40 + 3 }],
  ])("gets no answer to what it sends %s", async (_, addresses) => {
    const { guest, host } = await opened();
    guest.send({ ...ports, operation: RW, payload: Buffer.from("x"), ...addresses });
    guest.send({ ...ports, operation: RW, payload: Buffer.from("y") });
    await until(() => host.text.length > 0);
    expect(host.text).toBe("y");
    expect(device.use.droppedPackets).toBe(1);
  });

  it("that sends half a header is not heard", async () => {
    const guest = new VsockGuest(device);
    guest.sendChain([{ address: 0x30000, lengthBytes: 43 }]);
    expect(device.use.droppedPackets).toBe(1);
    expect(guest.unsentCount).toBe(0);
    expect(guest.driver.faults).toEqual([]);
  });

  it("that has receive buffers of no use loses the device, and its streams", async () => {
    const { guest, host } = await opened({ receiveBytes: 4096 });
    guest.driver.rings[0]?.takeUsed();
    guest.isDeaf = true;
    // All that are there, and then one that is too small.
    host.socket.write(Buffer.alloc(4096 * 20));
    guest.driver.rings[0]?.add([{ address: 0x8000, lengthBytes: 44, writable: true }]);
    await until(() => guest.driver.faults.length > 0);
    expect(guest.driver.faults[0]?.message).toBe("a receive buffer of 44 bytes");
    await until(() => host.isEnded || host.isClosed);
    expect(guest.driver.status & 0x40).toBe(0x40);
  });

  it("has so many streams and no more, and refusals wait for its buffers without end of memory", async () => {
    serve(ports.hostPort);
    const guest = new VsockGuest(device);
    const request = (guestPort: number) => guest.send({ ...ports, guestPort, operation: REQUEST });
    for (let i = 0; i < CONNECTIONS_MAX; i++) request(i);
    await until(() => guest.packets.length === CONNECTIONS_MAX);
    request(CONNECTIONS_MAX);
    expect(await guest.packet(RST)).toMatchObject({ guestPort: CONNECTIONS_MAX });
    const host = await client("CONNECT 1\n");
    await until(() => host.isEnded || host.isClosed);
    expect(device.use.connections).toBe(CONNECTIONS_MAX);
    // It takes nothing more, and goes on asking.
    guest.isDeaf = true;
    const before = device.use.refused;
    let asked = 0;
    while (guest.unsentCount < 40 && asked < 1000) {
      request(10_000 + asked++);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(device.use.refused - before).toBeLessThan(asked);
    guest.listen();
    await until(() => guest.unsentCount === 0 && device.use.refused - before === asked);
    expect(guest.driver.faults).toEqual([]);
  });

  it("harms nothing with whatever it sends", async () => {
    const { guest } = await opened();
    const word = fc.oneof(fc.constantFrom(0, 1, 3, 44, 9000, 1234, 65536, 2 ** 31, 2 ** 32 - 1), fc.nat(2 ** 32 - 1));
    const packet = fc.record({
      operation: fc.nat(9),
      hostPort: fc.constantFrom(9000, 9001, 2 ** 30),
      guestPort: fc.constantFrom(1234, 1235),
      type: fc.constantFrom(1, 1, 1, 2),
      flags: word,
      bufferBytes: word,
      forwardedBytes: word,
      payload: fc.uint8Array({ maxLength: 200 }),
      lengthBytes: fc.option(word, { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(packet, { maxLength: 30 }), async (packets) => {
        for (const { lengthBytes, ...each } of packets)
          guest.send({ ...each, ...(lengthBytes !== undefined && { lengthBytes }) });
        await new Promise((resolve) => setImmediate(resolve));
      }),
      { numRuns: 100 },
    );
    expect(guest.driver.faults).toEqual([]);
    expect(device.use.connections).toBeLessThanOrEqual(6);
    guest.send({ ...ports, operation: RST });
    guest.packets.length = 0;
    guest.send({ ...ports, operation: REQUEST });
    await guest.packet(RESPONSE);
  });
});

describe("a guest that goes on elsewhere", () => {
  it("is told that its streams are gone, and has none of the new ones before it has seen that", async () => {
    const guest = new VsockGuest(device);
    await guest.driver.transport.hold();
    const state = guest.driver.transport.save();
    const other = new VsockDevice({ guestCid: VsockGuest.CID, dial: () => connect({ path: join(directory, "none") }) });
    const moved = new VsockGuest(other, {}, guest);
    moved.driver.transport.restore(state, 1);
    moved.driver.transport.release();
    await until(() => moved.events.length === 2);
    expect(moved.events).toEqual([0, 0]);
    const [socket] = await pair();
    other.connect(socket, 22);
    moved.send({ ...ports, operation: RW, payload: Buffer.from("old") });
    await new Promise((resolve) => setImmediate(resolve));
    expect(moved.packets).toEqual([]);
    moved.offerEvent(0x6000);
    await moved.packet(RST);
    await moved.packet(REQUEST);
    other.reset();
  });

  it("goes on with its streams where it stays after all", async () => {
    const { guest, host } = await opened();
    await guest.driver.transport.hold();
    host.socket.write("while held");
    guest.send({ ...ports, operation: RW, payload: Buffer.from("also held") });
    await new Promise((resolve) => setImmediate(resolve));
    expect([host.text, guest.packets]).toEqual(["", []]);
    guest.driver.transport.save();
    guest.driver.transport.release();
    await until(() => host.text === "also held");
    expect((await guest.packet(RW)).payload.toString()).toBe("while held");
    expect(guest.events).toEqual([]);
  });
});

/** Two ends of one connection. */
async function pair(): Promise<[Socket, Socket]> {
  const service = serve(1);
  const socket = connect({ path: join(directory, "v_1"), allowHalfOpen: true });
  sockets.push(socket);
  return [socket, (await service.next()).socket];
}
