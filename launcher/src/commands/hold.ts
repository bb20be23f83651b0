import { setTimeout as delay } from "node:timers/promises";
import { exitCodes } from "../../api/control.ts";
import { AgentAway, askAgent, offerToPod } from "../agent-client/agent-client.ts";
import { errorText } from "../log/error-text.ts";
import { jsonLogger, type Logger, writeToStdout } from "../log/logger.ts";
import { DiskInUse } from "../storage/disk-error.ts";
import { openDirectoryFile } from "../storage/file-disks.ts";
import { openRawFiles } from "../storage/raw-disk.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { watchFd } from "../sys/fd-watch.ts";
import type { HoldOptions } from "./hold-options.ts";
import { terminationPathOfBrokenConfig, writeTermination } from "./termination.ts";
import { terminationOf } from "./termination-reason.ts";

const AGENT_DEADLINE_MS = 60_000;
const FIRST_RETRY_MS = 20;
const LAST_RETRY_MS = 1_000;
/** How often a disk is looked at that somebody else has: each look at a block volume is a request to the node agent. */
const FIRST_LOOK_MS = 500;
const LAST_LOOK_MS = 10_000;
/** The same while the kubelet waits for this process. */
const LAST_LOOK_AT_END_MS = 2_000;

/**
 * `launcher hold`: the only process of an attachment pod. As long as it lives, the pod does, and with it the volume is on
 * this node. Ends the process.
 */
export async function hold(options: HoldOptions): Promise<never> {
  const log = jsonLogger("info", { disk: options.disk, to: options.to }, writeToStdout);
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop.abort());
  try {
    await new Holder(options, log, stop.signal).toItsEnd();
  } catch (error) {
    const termination = terminationOf(error);
    log.error("holder ends", { reason: termination.reason, message: termination.message });
    // The path of a pod; there is no configuration that would name another.
    const path = terminationPathOfBrokenConfig("");
    if (path !== undefined) writeTermination(path, termination);
    process.exit(exitCodes[termination.reason]);
  }
  log.info("holder ends", { reason: "Released" });
  process.exit(0);
}

class Holder {
  readonly #options: HoldOptions;
  readonly #log: Logger;
  readonly #stopping: AbortSignal;

  constructor(options: HoldOptions, log: Logger, stopping: AbortSignal) {
    this.#options = options;
    this.#log = log;
    this.#stopping = stopping;
  }

  async toItsEnd(): Promise<void> {
    {
      using disk = await this.#open();
      if (disk) await this.#offerUntilStopped(disk.fds);
    }
    await this.#outlastUse();
  }

  /** Waits for a disk that somebody else has: another holder in whose place this one is. Null when it is told to stop. */
  async #open(): Promise<OpenDisk | null> {
    let lookMs = FIRST_LOOK_MS;
    for (let told = false; !this.#stopping.aborted; told = true) {
      try {
        return new OpenDisk(await this.#openNow());
      } catch (error) {
        if (!(error instanceof DiskInUse)) throw error;
        if (!told) this.#log.warn("disk is in use; waits for it", { reason: "DiskInUse", error: error.message });
      }
      await this.#pause(lookMs);
      lookMs = Math.min(lookMs * 2, LAST_LOOK_MS);
    }
    return null;
  }

  async #openNow(): Promise<OwnedFd[]> {
    const { disk, source, readOnly, agentSocketPath: socketPath } = this.#options;
    if (source.kind === "directory") return [openDirectoryFile(disk, source, { readOnly })];
    const openBlockDevice = async (path: string, access: { readOnly: boolean; direct: boolean }) => {
      const want = [{ kind: "block", path, ...access }] as const;
      const [granted] = await askAgent(want, { socketPath, deadlineMs: AGENT_DEADLINE_MS, log: this.#log });
      const fd = granted?.fds[0];
      if (!fd) throw new TypeError("the node agent's client answers with as many descriptors as were asked");
      return fd;
    };
    return openRawFiles(disk, source.path, { readOnly, openBlockDevice });
  }

  /** Again and again: an agent that restarts has forgotten the offer. */
  async #offerUntilStopped(fds: readonly OwnedFd[]): Promise<void> {
    const { to, agentSocketPath } = this.#options;
    for (let retryMs = FIRST_RETRY_MS; !this.#stopping.aborted; ) {
      try {
        using connection = offerToPod(to, fds, agentSocketPath);
        this.#log.info("disk is offered", { reason: "Offered" });
        retryMs = FIRST_RETRY_MS;
        await this.#closed(connection);
      } catch (error) {
        if (!(error instanceof AgentAway)) throw error;
        this.#log.debug("node agent is away, trying again", { reason: "AgentAway", error: errorText(error), retryMs });
      }
      await this.#pause(retryMs);
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    }
  }

  /** Resolves when the agent has closed the connection, on which it says nothing more, or at the stop. */
  #closed(connection: OwnedFd): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        watch[Symbol.dispose]();
        this.#stopping.removeEventListener("abort", end);
        resolve();
      };
      const watch = watchFd(connection.fd, { readable: true }, end);
      this.#stopping.addEventListener("abort", end);
      if (this.#stopping.aborted) end();
    });
  }

  /**
   * The volume would leave the node with this pod, whoever uses it: who has taken the disk has its lock, also when this
   * process has let go of it. The kubelet's patience ends this where that takes too long.
   */
  async #outlastUse(): Promise<void> {
    let lookMs = FIRST_LOOK_MS;
    // Readers share their lock.
    for (let told = false; !this.#options.readOnly && (await this.#isInUse()); told = true) {
      if (!told) this.#log.warn("told to end; waits until the disk is not in use", { reason: "DiskInUse" });
      await delay(lookMs);
      lookMs = Math.min(lookMs * 2, LAST_LOOK_AT_END_MS);
    }
  }

  async #isInUse(): Promise<boolean> {
    try {
      using _disk = new OpenDisk(await this.#openNow());
      return false;
    } catch (error) {
      return error instanceof DiskInUse;
    }
  }

  #pause(ms: number): Promise<void> {
    return delay(ms, undefined, { signal: this.#stopping }).catch(() => {});
  }
}

class OpenDisk implements Disposable {
  readonly fds: readonly OwnedFd[];

  constructor(fds: readonly OwnedFd[]) {
    this.fds = fds;
  }

  [Symbol.dispose](): void {
    for (const fd of this.fds) fd[Symbol.dispose]();
  }
}
