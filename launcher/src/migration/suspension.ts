import { mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CodecError } from "../codec/codec-error.ts";
import { errorText } from "../log/error-text.ts";
import type { MovableMachine } from "../machine/movable-machine.ts";
import { SysError } from "../sys/errors.ts";
import { fdatasync, openFile, preadFully, pwriteFully } from "../sys/file-io.ts";
import { type ConsoleHistory, type DecodedState, decodeState, encodeState } from "./codec/snapshot-codec.ts";
import { SuspensionError } from "./suspension-error.ts";
import { runWorker } from "./worker/worker-thread.ts";

/** Files of a suspended machine in its directory. */
const STATE = "state";
const MEMORY = "memory";
/** What the state is called once it was taken: disks have moved on since, so that nobody may take it again. */
const TAKEN = "state.taken";
/** Long enough for all that waits in slow storage; the guest is stopped meanwhile. */
const REST_LIMIT_MS = 30_000;
const STATE_LIMIT_BYTES = 512 * 2 ** 20;

/**
 * Writes a machine into `directory` and ends this process's part of it. The state comes last, so that what is there is
 * whole. Rejects, with the machine running on, where that does not work.
 */
export async function suspend(
  machine: MovableMachine,
  directory: string,
  consoles: () => ConsoleHistory,
): Promise<void> {
  await machine.freeze(REST_LIMIT_MS);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const state = encodeState(machine.save(), consoles());
    const { fd, memory } = machine.memory;
    await runWorker({ kind: "save", memoryFd: fd, sizeBytes: memory.sizeBytes, path: join(directory, MEMORY) });
    writeDurably(join(directory, STATE), state);
  } catch (cause) {
    machine.thaw();
    throw new SuspensionError(`the machine cannot be written to ${directory}: ${errorText(cause)}; it goes on`, {
      cause,
    });
  }
  await machine.leave("Suspended", `the machine is in ${directory}, and goes on with launcher run --restore`);
}

function writeDurably(path: string, bytes: Uint8Array): void {
  const made = `${path}.new`;
  using file = openFile(made, { write: true, create: true, truncate: true, noFollow: true });
  pwriteFully(file.fd, bytes, 0);
  fdatasync(file.fd);
  renameSync(made, path);
}

/** Throws SuspensionError, with what to do. */
export function readSuspended(directory: string): DecodedState {
  const path = join(directory, STATE);
  try {
    return decodeState(readWhole(path));
  } catch (cause) {
    if (cause instanceof CodecError) throw new SuspensionError(`${path} cannot be used: ${cause.message}`, { cause });
    const isMissing = cause instanceof SysError && cause.code === "ENOENT";
    const why = isMissing ? "there is no suspended machine, or one that went on already" : errorText(cause);
    throw new SuspensionError(`${path} cannot be read: ${why}`, { cause });
  }
}

function readWhole(path: string): Uint8Array {
  using file = openFile(path, { noFollow: true });
  const chunks: Uint8Array[] = [];
  for (let at = 0; ; ) {
    const chunk = new Uint8Array(2 ** 20);
    const count = preadFully(file.fd, chunk, at);
    chunks.push(chunk.subarray(0, count));
    at += count;
    if (count < chunk.length) return Buffer.concat(chunks);
    if (at > STATE_LIMIT_BYTES) throw new CodecError(`more than ${STATE_LIMIT_BYTES} bytes`);
  }
}

/** Makes `machine`, which was not started, the suspended one; nobody else can take it after. Throws SuspensionError or StateRefused. */
export async function restoreSuspended(machine: MovableMachine, directory: string, state: DecodedState): Promise<void> {
  const { fd, memory } = machine.memory;
  const path = join(directory, MEMORY);
  try {
    await runWorker({ kind: "load", memoryFd: fd, sizeBytes: memory.sizeBytes, path });
  } catch (cause) {
    throw new SuspensionError(`${path} cannot be used: ${errorText(cause)}`, { cause });
  }
  machine.restore(state.snapshot, { elapsedNs: 0n, version: state.version });
  try {
    renameSync(join(directory, STATE), join(directory, TAKEN));
  } catch (cause) {
    throw new SuspensionError(`${directory} is another machine's by now: ${errorText(cause)}`, { cause });
  }
  rmSync(path, { force: true });
}
