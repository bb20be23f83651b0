import { EventEmitter, once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { MovableMachine } from "../machine/movable-machine.ts";
import { closeFd } from "../sys/fd.ts";
import { preadFully } from "../sys/file-io.ts";
import { createMemfd } from "../sys/mapping.ts";
import { freePorts } from "../testing/free-ports.ts";
import { until } from "../testing/until.ts";
import { MemoryReceiver, type MemoryReceiverParts } from "./memory-receiver.ts";
import { MEMORY_FRAME, memoryHeader, TOKEN_BYTES } from "./protocol.ts";
import { ReceivedDisks } from "./received-disks.ts";
import { MigrationLab } from "./testing/migration-lab.ts";
import { connectToPeer } from "./tls.ts";
import { ReadyWorkers } from "./worker/worker-thread.ts";

const memoryBytes = 1 << 20;
const token = new Uint8Array(TOKEN_BYTES).fill(9);
const address = "127.0.0.1";

let lab: MigrationLab;
let memory: ReturnType<typeof createMemfd>;
let port: number;
beforeEach(async () => {
  lab = await MigrationLab.make();
  memory = createMemfd("memory", memoryBytes);
  [port = 0] = await freePorts(1);
});
afterEach(() => {
  memory[Symbol.dispose]();
  lab[Symbol.dispose]();
});

function receiver(changes: Partial<MemoryReceiverParts>): MemoryReceiver {
  const machineMemory = { fd: memory.fd, vmFd: -1, memory: { sizeBytes: memoryBytes } };
  return new MemoryReceiver({
    workers: new ReadyWorkers(0),
    memory: machineMemory as MovableMachine["memory"],
    disks: new ReceivedDisks([]),
    tls: lab.tls,
    connections: 2,
    ...{ address, port, token },
    onPass: () => {},
    onBroken: () => {},
    ...changes,
  });
}

async function stranger(bytes: string): Promise<void> {
  const socket: Socket = connect(port, address);
  socket.on("error", () => {});
  socket.end(bytes);
  socket.resume();
  await once(socket, "close");
}

describe("who receives memory", () => {
  it("takes it from connections with the token, whoever else comes, however often", async () => {
    const passes: number[] = [];
    const broken: Error[] = [];
    const reception = receiver({ onPass: (pass) => passes.push(pass), onBroken: (error) => broken.push(error) });
    await reception.listening;
    // More than may be there at a time, on each of the threads.
    for (let i = 0; i < 50; i++) await stranger(i % 2 === 0 ? "" : "GET / HTTP/1.1\r\n\r\n");
    const sources = await Promise.all([1, 2].map(() => connectToPeer(address, port, lab.tls)));
    sources.forEach((source, i) => {
      source.write(memoryHeader(MEMORY_FRAME.hello, TOKEN_BYTES, 0));
      source.write(token);
      source.write(memoryHeader(MEMORY_FRAME.pages, 4096, 8192 * i));
      source.write(new Uint8Array(4096).fill(i + 1));
      source.write(memoryHeader(MEMORY_FRAME.passEnd, 0, 0));
    });
    await until(() => passes.length > 0);
    expect([passes, broken]).toEqual([[0], []]);
    const bytes = new Uint8Array(12_288);
    preadFully(memory.fd, bytes, 0);
    expect([bytes[0], bytes[4095], bytes[4096], bytes[8192], bytes[12_287]]).toEqual([1, 1, 0, 2, 2]);
    sources[0]?.destroy();
    await until(() => broken.length > 0);
    expect(broken[0]?.message).toContain("closed a memory connection");
    await reception.close();
    sources[1]?.destroy();
  });

  it("gives its threads one connection each, in turn", async () => {
    const given: number[][] = [];
    const start = () => {
      const mine: number[] = [];
      given.push(mine);
      const postMessage = ({ connection }: { connection: number }) => void mine.push(connection);
      // As of one that has ended.
      return Object.assign(new EventEmitter(), { postMessage, threadId: -1 });
    };
    const reception = receiver({ workers: { start } as unknown as ReadyWorkers, connections: 3 });
    await reception.listening;
    const clients = Array.from({ length: 6 }, () => connect(port, address));
    await until(() => given.flat().length === 6);
    expect(given.map((each) => each.length)).toEqual([2, 2, 2]);
    for (const fd of given.flat()) closeFd(fd);
    for (const client of clients) client.destroy();
    await reception.close();
  });

  it("says that its port is somebody else's", async () => {
    const other = createServer().listen(port, address);
    await once(other, "listening");
    const reception = receiver({});
    await expect(reception.listening).rejects.toThrow("EADDRINUSE");
    await reception.close();
    other.close();
  });
});
