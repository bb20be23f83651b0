import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { listenForVsock } from "../control/vsock-listener.ts";
import { decodeState, encodeState } from "../migration/codec/snapshot-codec.ts";
import { TestMachine } from "./testing/test-machine.ts";

const MIB = 2 ** 20;
const NO_CONSOLES = { serial: new Uint8Array(0), virtio: new Uint8Array(0) };

let directory: string;
let path: string;
const servers: Server[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "vsock-kvm-"));
  path = join(directory, "v");
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(directory, { recursive: true });
});

const options = () => ({ vsock: { socketPath: path, guestCid: 3 } });

/** What comes to the socket of the machine goes to its guest. */
async function listen({ machine }: TestMachine): Promise<void> {
  servers.push(await listenForVsock((socket, port) => machine.vsock?.connect(socket, port), path));
}

async function dial(port: number): Promise<{ socket: Socket; greeting: string }> {
  const socket = connect({ path, allowHalfOpen: true });
  socket.write(`CONNECT ${port}\n`);
  const [greeting] = await once(socket, "data");
  return { socket, greeting: String(greeting) };
}

/** Sends bytes, and answers the digests of those and of what came back until the end. */
async function echo(socket: Socket, sizeBytes: number): Promise<[string, string]> {
  const bytes = randomBytes(sizeBytes);
  const back = createHash("sha256");
  socket.on("data", (chunk: Buffer) => back.update(chunk));
  socket.end(bytes);
  await once(socket, "end");
  return [createHash("sha256").update(bytes).digest("hex"), back.digest("hex")];
}

describe("a guest with a vsock", () => {
  it("serves a stream of the host's, byte for byte", async () => {
    await using test = await TestMachine.start(options());
    await listen(test);
    await test.console.ask("vsockserve 7", "vsock serves");
    const { socket, greeting } = await dial(7);
    expect(greeting).toMatch(/^OK \d+\n$/);
    const [sent, received] = await echo(socket, 2 * MIB);
    expect(received).toBe(sent);
    await test.console.said(`vsock closed after ${2 * MIB} bytes`);
    expect(test.machine.vsock?.use).toMatchObject({
      ...{ connections: 0, openedByHost: 1, refused: 0, droppedPackets: 0 },
      ...{ receivedBytes: 2 * MIB, transmittedBytes: 2 * MIB },
    });
  });

  it("opens a stream to what listens for it, and is refused where nobody does", async () => {
    await using test = await TestMachine.start(options());
    await test.console.ask("vsockdial 9000", "vsock refused after 0 bytes");
    const server = createServer({ allowHalfOpen: true }).listen(`${path}_9000`);
    servers.push(server);
    const come = once(server, "connection");
    test.console.type("vsockdial 9000");
    const [socket] = await come;
    const [sent, received] = await echo(socket, 2 * MIB);
    expect(received).toBe(sent);
    await test.console.said(`vsock closed after ${2 * MIB} bytes`);
    expect(test.machine.vsock?.use).toMatchObject({ connections: 0, openedByGuest: 1, refused: 1 });
  });

  it("loses its streams when it goes on elsewhere, is told so, and has new ones there", async () => {
    const test = await TestMachine.start(options());
    await listen(test);
    await test.console.ask("vsockserve 7", "vsock serves");
    const { socket } = await dial(7);
    socket.write("before");
    expect(String((await once(socket, "data"))[0])).toBe("before");
    await test.machine.freeze(60_000);
    const { memory } = test.machine.memory;
    const copies = memory.regions.map(({ gpa, sizeBytes }) => memory.view(gpa, sizeBytes).slice());
    const { snapshot, version } = decodeState(encodeState(test.machine.save(), NO_CONSOLES));
    const gone = once(socket, "end");
    await test.machine.leave("Suspended", "for a test");
    await gone;
    for (const server of servers.splice(0)) server.close();

    await using to = await TestMachine.make({ ...options(), isIncoming: true });
    to.machine.memory.memory.regions.forEach(({ gpa }, i) => {
      to.machine.memory.memory.write(gpa, copies[i] ?? new Uint8Array(0));
    });
    to.machine.restore(snapshot, { elapsedNs: 0n, version });
    await listen(to);
    to.machine.start();
    await to.console.said("vsock lost its transport after 6 bytes");
    const [sent, received] = await echo((await dial(7)).socket, 100_000);
    expect(received).toBe(sent);
    await to.console.said("vsock closed after 100000 bytes");
    await test[Symbol.asyncDispose]();
  });

  it("has no stream left after a reset of the machine", async () => {
    await using test = await TestMachine.start(options());
    await listen(test);
    await test.console.ask("vsockserve 7", "vsock serves");
    const { socket } = await dial(7);
    const gone = once(socket, "end");
    await test.machine.reset();
    await gone;
    await test.console.until(() => test.console.text.split("READY").length === 2, "a second start");
    await test.console.ask("vsockserve 7", "vsock serves");
    const [sent, received] = await echo((await dial(7)).socket, 1000);
    expect(received).toBe(sent);
  });
});
