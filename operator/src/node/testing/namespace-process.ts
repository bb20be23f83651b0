import { createSocket } from "node:dgram";
import { openSync } from "node:fs";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import type { AgentAnswer } from "../../../../launcher/api/agent.ts";
import { OwnedFd, ownFd } from "../../../../launcher/src/sys/fd.ts";
import { type FdWatch, watchFd } from "../../../../launcher/src/sys/fd-watch.ts";
import { ioctl } from "../../../../launcher/src/sys/ioctl.ts";
import { libc } from "../../../../launcher/src/sys/libc.ts";
import { setNamespace } from "../../../../launcher/src/sys/namespaces.ts";
import { openTapQueue } from "../agent/network/tap-queue.ts";
import { AskingSocket } from "./asking-socket.ts";
import type { NamespaceOrder } from "./test-namespace.ts";

// A process in a network namespace: does what each line of standard input asks, and answers with a line.
const DEADLINE_MS = 5_000;
const FRAME_MAX_BYTES = 66_000;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETCARRIER = 0x400454e2;
const TUNSETPERSIST = 0x400454cb;
const TUN_F_CSUM_TSO4_TSO6 = 0x07;
const AF_PACKET = 17;
const SOCK_DGRAM_NONBLOCK = 0o4002;
const ETH_P_ALL_BE = 0x0300;

const held: OwnedFd[] = [];
let answer: AgentAnswer | undefined;
let guestEnd: OwnedFd | undefined;
const watches: FdWatch[] = [];
const seen: string[] = [];

/** Frames that can be read from `fd` now. */
function framesOf(fd: number): readonly Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (;;) {
    const buffer = Buffer.allocUnsafe(FRAME_MAX_BYTES);
    const length = libc().read(fd, buffer, buffer.length);
    if (length <= 0) return frames;
    frames.push(buffer.subarray(0, length));
  }
}

const write = (fd: number, frame: Uint8Array) => void libc().write(fd, frame, frame.length);
const pump = (from: number, to: number) => {
  watches.push(
    watchFd(from, { readable: true }, () => {
      for (const frame of framesOf(from)) write(to, frame);
    }),
  );
};

function release(): void {
  for (const watch of watches.splice(0)) watch[Symbol.dispose]();
  for (const fd of held.splice(0)) fd[Symbol.dispose]();
  guestEnd?.[Symbol.dispose]();
  guestEnd = undefined;
}

async function ask(socketPath: string, want: Parameters<AskingSocket["ask"]>[0]): Promise<unknown> {
  using socket = new AskingSocket(socketPath);
  const result = await socket.ask(want);
  held.push(...result.fds);
  answer = result.answer;
  return { answer, fdCount: result.fds.length };
}

/** Stands for a launcher and its guest: the guest's interface eth0 is in a namespace of its own. */
function relay(guestNamespace: string): void {
  const tap = held[0];
  if (tap === undefined) throw new Error("no TAP");
  using own = new OwnedFd(openSync("/proc/self/ns/net", "r"));
  using other = new OwnedFd(openSync(guestNamespace, "r"));
  setNamespace(other.fd, "network");
  guestEnd = openTapQueue("eth0", "guest");
  setNamespace(own.fd, "network");
  for (const { fd } of [tap, guestEnd]) ioctl(fd, "TUNSETOFFLOAD", TUNSETOFFLOAD, TUN_F_CSUM_TSO4_TSO6);
  pump(tap.fd, guestEnd.fd);
  pump(guestEnd.fd, tap.fd);
}

/** Collects what passes any interface of the namespace, from the network layer's header on. */
function sniff(): void {
  const socket = ownFd("socket", libc().socket(AF_PACKET, SOCK_DGRAM_NONBLOCK, ETH_P_ALL_BE));
  held.push(socket);
  collect(socket.fd);
}

function collect(fd: number): void {
  watches.push(
    watchFd(fd, { readable: true }, () => {
      for (const frame of framesOf(fd)) seen.push(Buffer.from(frame).toString("hex"));
    }),
  );
}

/** Answers each message with who it is and whom it sees. */
async function listen(protocol: "tcp" | "udp", port: number, label: string): Promise<void> {
  const says = (address: string | undefined) => `${label} saw ${address?.replace("::ffff:", "")}`;
  if (protocol === "udp") {
    const socket = createSocket("udp6");
    socket.on("message", (_message, { address, port: from }) => socket.send(says(address), from, address));
    await new Promise<void>((resolve) => socket.bind(port, "::", () => resolve()));
    return;
  }
  const server = createServer((socket) => {
    let length = 0;
    socket.on("error", () => socket.destroy());
    socket.on("data", (bytes) => {
      length += bytes.length;
      if (bytes.at(-1) === 10) socket.end(`${says(socket.remoteAddress)} ${length}`);
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "::", () => resolve()));
}

function exchange(order: Extract<NamespaceOrder, { do: "exchange" }>): Promise<string> {
  const { protocol, host, port, lengthBytes = 2, timeoutMs = DEADLINE_MS } = order;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail(new Error("no answer")), timeoutMs);
    const done = (text: string) => {
      clearTimeout(timer);
      resolve(text);
      end();
    };
    const fail = (error: Error) => {
      clearTimeout(timer);
      reject(error);
      end();
    };
    let end = () => {};
    if (protocol === "udp") {
      const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
      end = () => socket.close();
      socket.once("message", (message) => done(message.toString()));
      socket.once("error", fail);
      socket.send("x", port, host);
      return;
    }
    const socket = connect({ host, port });
    end = () => socket.destroy();
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes;
    });
    socket.once("end", () => done(text));
    socket.once("error", fail);
    socket.write(Buffer.concat([Buffer.alloc(lengthBytes - 1, "x"), Buffer.from("\n")]));
  });
}

async function obey(order: NamespaceOrder): Promise<unknown> {
  switch (order.do) {
    case "ask":
      return await ask(order.socketPath, order.want);
    case "relay":
      return relay(order.guestNamespace);
    case "release":
      return release();
    case "listen":
      return await listen(order.protocol, order.port, order.label);
    case "exchange":
      return await exchange(order);
    case "sniff":
      return sniff();
    case "collect":
      return collect(held[order.descriptor]?.fd ?? -1);
    case "seen":
      return seen;
    case "persist":
      return void libc().ioctl(held[order.descriptor]?.fd ?? -1, TUNSETPERSIST, 1);
    case "unplug":
      return void libc().ioctl(held[order.descriptor]?.fd ?? -1, TUNSETCARRIER, Buffer.alloc(4));
    case "send":
      return write(held[order.descriptor]?.fd ?? -1, Buffer.from(order.hex, "hex"));
  }
}

for await (const line of createInterface(process.stdin)) {
  const reply = await obey(JSON.parse(line)).then(
    (result) => ({ result }),
    (error) => ({ error: String(error.code ?? error.message ?? error) }),
  );
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
