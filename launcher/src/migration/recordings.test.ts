import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import type { MovableDisk, MovableMachine } from "../machine/movable-machine.ts";
import type { MachineSnapshot } from "../machine/snapshot.ts";
import { PAGE_SIZE } from "../memory/dirty-bitmap.ts";
import { TrackedDisk } from "../storage/tracked-disk.ts";
import { preadFully } from "../sys/file-io.ts";
import { createMemfd } from "../sys/mapping.ts";
import { freePorts } from "../testing/free-ports.ts";
import { recordingLog } from "../testing/recording-log.ts";
import { until } from "../testing/until.ts";
import { STATE_VERSION } from "./codec/sections.ts";
import { MIGRATION_LIMITS } from "./limits.ts";
import { type Frame, FrameReader, MEMORY_HEADER_BYTES, PROTOCOL_VERSION, TOKEN_BYTES } from "./protocol.ts";
import { MigrationTarget } from "./target.ts";
import { MigrationLab } from "./testing/migration-lab.ts";
import { connectToPeer } from "./tls.ts";

/** What hack/migration/record.ts writes. */
interface Recording {
  readonly protocolVersion: number;
  readonly stateVersion: number;
  readonly disks?: readonly { readonly name: string; readonly sizeBytes: number }[];
  readonly control: string;
  readonly memory: string;
}

const directory = join(import.meta.dirname, "recordings");
const recordings = readdirSync(directory).map((file): [string, Recording] => [
  file,
  JSON.parse(readFileSync(join(directory, file), "utf8")) as Recording,
]);
const unpacked = (stream: string) => gunzipSync(Buffer.from(stream, "base64"));

let lab: MigrationLab;
let open: DisposableStack;
beforeEach(async () => {
  lab = await MigrationLab.make();
  open = new DisposableStack();
});
afterEach(() => {
  open[Symbol.dispose]();
  lab[Symbol.dispose]();
});

const memoryBytes = 16 << 20;

/** A machine that takes whatever comes, and shows it. */
function machineFor({ disks = [] }: Recording) {
  const memory = open.use(createMemfd("memory", memoryBytes));
  const files = new Map(disks.map(({ name, sizeBytes }) => [name, open.use(createMemfd(name, sizeBytes))]));
  const restored: MachineSnapshot[] = [];
  const moved = disks.map(({ name, sizeBytes }): MovableDisk => {
    const fd = files.get(name)?.fd ?? -1;
    const contents = {
      fd,
      sizeBytes,
      isBlockDevice: false,
      outlivesProcess: false,
      isBlank: true,
      headFd: null,
      overlay: null,
    };
    const tracked = Object.assign(Object.create(TrackedDisk.prototype) as TrackedDisk, { contents: () => contents });
    const source = { kind: "empty", path: `/${name}`, sizeBytes } as const;
    return { name, tracked, config: { name, readOnly: false, queues: 1, source } };
  });
  const machine: Partial<MovableMachine> = {
    memory: { fd: memory.fd, vmFd: -1, memory: { sizeBytes: memoryBytes } as MovableMachine["memory"]["memory"] },
    disks: moved,
    checkProcessors: () => {},
    restore: (snapshot) => void restored.push(snapshot),
    claimDisks: () => {},
  };
  const bytesOf = (fd: number, offsetBytes: number, lengthBytes: number) => {
    const bytes = new Uint8Array(lengthBytes);
    preadFully(fd, bytes, offsetBytes);
    return bytes;
  };
  return { machine: machine as MovableMachine, memory, files, restored, bytesOf };
}

/** The frames of a control connection as a source sent them, one array each. */
function framesOf(stream: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    const end = at + 12 + stream.readUInt32LE(at + 4);
    frames.push(stream.subarray(at, end));
    at = end;
  }
  return frames;
}

describe("what launchers of each version sent", () => {
  it("is recorded of this version, and of the one before", () => {
    const versions = recordings.map(([, { protocolVersion, stateVersion }]) => `${protocolVersion}/${stateVersion}`);
    expect(versions).toContain(`${PROTOCOL_VERSION}/${STATE_VERSION}`);
    expect(recordings.map(([, { protocolVersion }]) => protocolVersion)).toContain(PROTOCOL_VERSION - 1);
  });

  it.each(recordings)("is taken by this one: %s", async (_file, recording) => {
    const [hello, state, commit] = framesOf(unpacked(recording.control));
    if (!hello || !state || !commit) throw new Error("a recording has three frames");
    const { machine, memory, files, restored, bytesOf } = machineFor(recording);
    const [port = 0] = await freePorts(2);
    let starts = 0;
    const [said] = new FrameReader().push(hello);
    if (said?.name !== "hello") throw new Error("a recording begins with hello");
    expect(said.payload.version).toBe(recording.protocolVersion);
    const target = new MigrationTarget({
      machine,
      start: () => void starts++,
      uid: said.payload.uid,
      address: "127.0.0.1",
      port,
      tls: lab.tls,
      log: recordingLog().log,
      restoreConsoles: () => {},
      limits: { ...MIGRATION_LIMITS, beatMs: 10, silentBeats: Number.MAX_SAFE_INTEGER },
    });
    await target.listen();
    const control = await connectToPeer("127.0.0.1", port, lab.tls);
    const reader = new FrameReader();
    const answers: Frame[] = [];
    const waiting = new Set<() => void>();
    control.on("data", (chunk: Buffer) => {
      answers.push(...reader.push(chunk));
      for (const look of waiting) look();
    });
    const answer = async <Name extends Frame["name"]>(name: Name) => {
      const found = () => answers.find((frame) => frame.name === name);
      while (!found()) {
        const refused = answers.find((frame) => frame.name === "refused");
        if (refused) throw new Error(JSON.stringify(refused));
        await new Promise<void>((resolve) => waiting.add(resolve));
      }
      return found() as Extract<Frame, { name: Name }>;
    };
    control.write(hello);
    const { payload: welcome } = await answer("welcome");
    expect(welcome.version).toBe(recording.protocolVersion);
    await until(() => hasKeepAlive(port));
    const stream = Buffer.from(unpacked(recording.memory));
    const firstPage = MEMORY_HEADER_BYTES + TOKEN_BYTES;
    const pageAt = pageIn(stream, firstPage);
    // Once more as it was then, by who has the certificate: its token lets nobody in here.
    const replayed = await connectToPeer("127.0.0.1", welcome.memoryPort, lab.tls);
    replayed.on("error", () => {});
    replayed.resume().write(stream);
    await once(replayed, "close");
    expect(bytesOf(memory.fd, pageAt.offsetBytes, PAGE_SIZE)).toEqual(new Uint8Array(PAGE_SIZE));
    stream.set(welcome.token, MEMORY_HEADER_BYTES);
    const carrier = await connectToPeer("127.0.0.1", welcome.memoryPort, lab.tls);
    carrier.write(stream);
    if (recording.protocolVersion >= 3) await answer("alive");
    control.write(state);
    await answer("prepared");
    control.write(commit);
    await answer("running");
    await target.running;
    expect([starts, target.phase]).toEqual([1, "Running"]);
    expect(restored).toMatchObject([{ facts: { uid: said.payload.uid, memoryBytes }, board: { vcpus: [{}] } }]);
    // Of an old source nothing is asked that it does not know.
    expect(answers.some(({ name }) => name === "wantDisks")).toBe(recording.protocolVersion >= 2);
    expect(answers.some(({ name }) => name === "alive")).toBe(recording.protocolVersion >= 3);
    expect(bytesOf(memory.fd, pageAt.offsetBytes, PAGE_SIZE)).toEqual(new Uint8Array(pageAt.bytes));
    for (const file of files.values()) expect(bytesOf(file.fd, 5 * 512, 8)[0]).toBe(77);
    carrier.destroy();
    control.destroy();
  });
});

/** Whether the kernel looks after the connection that somebody has to a port here (proc_net_tcp, "timer_active"). */
function hasKeepAlive(port: number): boolean {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const [established, keepAlive] = ["01", "02"];
  return readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .some(
      ([, from, , state, , timer]) => from === local && state === established && timer?.startsWith(`${keepAlive}:`),
    );
}

/** The last page of memory that a stream sends. */
function pageIn(stream: Buffer, from: number): { offsetBytes: number; bytes: Buffer } {
  const [zeroes, passEnd, pages] = [3, 4, 2];
  let found: { offsetBytes: number; bytes: Buffer } | undefined;
  for (let at = from; at < stream.length; ) {
    const [type, lengthBytes] = [stream.readUInt32LE(at), stream.readUInt32LE(at + 4)];
    const start = at + MEMORY_HEADER_BYTES;
    const offsetBytes = stream.readUInt32LE(at + 8);
    if (type === pages) found = { offsetBytes, bytes: stream.subarray(start, start + PAGE_SIZE) };
    at = start + (type === zeroes || type === passEnd ? 0 : lengthBytes);
  }
  if (!found) throw new Error("a recording has a page");
  return found;
}
