import type { Socket } from "node:net";
import {
  AGENT_LINE_MAX_BYTES,
  AGENT_PROTOCOL_VERSION,
  type AgentAnswer,
  type AgentOffer,
  type AgentWant,
  type TapGrant,
} from "../../../../launcher/api/agent.ts";
import type { OwnedFd } from "../../../../launcher/src/sys/fd.ts";
import { sendFds } from "../../../../launcher/src/sys/unix-socket.ts";
import { AgentFailure } from "./agent-failure.ts";
import type { AgentParts } from "./agent-server.ts";
import { openGrants } from "./grants.ts";
import { LineReader } from "./line-reader.ts";
import { openOffered } from "./offered-files.ts";
import type { Offers } from "./offers.ts";
import { Peer } from "./peer.ts";
import type { PodIdentity } from "./pod-identity.ts";
import { parseRequest } from "./request.ts";
import { volumeDevicesOf } from "./volume-devices.ts";

/** A launcher asks as soon as it is connected, and closes when it has what it needs. */
const IDLE_TIMEOUT_MS = 10_000;

/** One connection: its requests are answered one after the other. Nothing that happens here reaches another one. */
export class AgentConnection {
  readonly #socket: Socket;
  readonly #parts: AgentParts;
  readonly #offers: Offers;
  readonly #lines = new LineReader(AGENT_LINE_MAX_BYTES);
  #peer: Peer | undefined;
  #busy = false;
  #isOffering = false;

  /** Offers of this connection. */
  readonly #offered = new DisposableStack();

  constructor(socket: Socket, parts: AgentParts, offers: Offers) {
    this.#socket = socket;
    this.#parts = parts;
    this.#offers = offers;
  }

  /** Pins who connected, and answers which pod that is now; undefined for none. */
  identify(): string | undefined {
    try {
      return this.#podOf(this.#pinnedPeer()).podUid;
    } catch {
      // Each request is told why.
      return undefined;
    }
  }

  start(): void {
    const socket = this.#socket;
    socket.setTimeout(IDLE_TIMEOUT_MS, () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      this.#offered.dispose();
      this.#peer?.[Symbol.dispose]();
    });
    socket.on("data", (bytes: Buffer) => {
      this.#lines.push(bytes);
      void this.#answerAll();
    });
    socket.resume();
  }

  /** Answers the lines that have come. What comes meanwhile waits in the socket, so a client cannot fill memory. */
  async #answerAll(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    this.#socket.pause();
    try {
      for (let line = this.#lines.next(); line !== undefined; line = this.#lines.next()) await this.#answer(line);
    } catch (error) {
      // A line without end: the next one's beginning is unknown.
      const failure = new AgentFailure("BadRequest", error instanceof Error ? error.message : String(error));
      this.#send(this.#refusal(failure), []);
      this.#socket.destroy();
    }
    this.#busy = false;
    this.#socket.resume();
  }

  async #answer(line: string): Promise<void> {
    const startedAt = performance.now();
    let want: readonly AgentWant[] = [];
    let pod: PodIdentity | undefined;
    let failure: AgentFailure | undefined;
    let offeredTo: string | undefined;
    let taps: readonly TapGrant[] = [];
    try {
      // First of all, and for every request: a process may have been moved.
      const peer = this.#pinnedPeer();
      pod = this.#podOf(peer);
      const request = parseRequest(line);
      if ("offer" in request) {
        offeredTo = request.offer.podUid;
        this.#offer(request.offer, { peer, pod });
      } else want = request.want;
      const granted = await openGrants(want, { peer, pod }, { paths: this.#parts.paths, offers: this.#offers });
      using _close = disposeAll(granted.fds);
      taps = granted.taps;
      if (!peer.isAlive()) throw new AgentFailure("NotAPod", "the asking process has ended");
      const answer: AgentAnswer = {
        version: AGENT_PROTOCOL_VERSION,
        ok: true,
        agentVersion: this.#parts.version,
        ...(taps.length > 0 && { taps }),
      };
      this.#send(answer, granted.fds);
    } catch (error) {
      failure = this.#failureOf(error);
      this.#send(this.#refusal(failure), []);
    }
    this.#note({ want, taps, offeredTo, pod, failure, tookMs: performance.now() - startedAt });
  }

  /** One a connection, which is there for nothing else from now on. */
  #offer(
    { podUid, fds }: AgentOffer["offer"],
    { peer, pod }: { readonly peer: Peer; readonly pod: PodIdentity },
  ): void {
    if (this.#isOffering) throw new AgentFailure("BadRequest", "this connection has an offer already");
    const open = () => openOffered(peer, fds, volumeDevicesOf(this.#parts.paths.kubeletDir, pod.podUid));
    // What cannot be had now cannot be later, and the holder is the one to be told.
    for (const fd of open()) fd[Symbol.dispose]();
    if (this.#socket.destroyed) return;
    this.#offered.use(this.#offers.add({ from: pod.podUid, to: podUid, open }));
    this.#isOffering = true;
    this.#socket.setTimeout(0);
  }

  #pinnedPeer(): Peer {
    this.#peer ??= Peer.of(this.#fd);
    return this.#peer;
  }

  #podOf(peer: Peer): PodIdentity {
    let cgroups: string;
    try {
      cgroups = peer.read("cgroup");
    } catch {
      throw new AgentFailure("NotAPod", "the asking process has ended");
    }
    const pod = this.#parts.pods.podOf(cgroups);
    if (pod === undefined) throw new AgentFailure("NotAPod", "the asking process is not in a pod of this node");
    return pod;
  }

  #failureOf(error: unknown): AgentFailure {
    if (error instanceof AgentFailure) return error;
    this.#parts.log.error({ err: error }, "request failed");
    return new AgentFailure("Internal", "the agent failed at this request; its log says why");
  }

  #refusal({ code, message, item }: AgentFailure): AgentAnswer {
    const error = { code, message, ...(item !== undefined && { item }) };
    return { version: AGENT_PROTOCOL_VERSION, ok: false, error };
  }

  /** One message, since descriptors travel with its first byte. Who does not read its answers is cut off. */
  #send(answer: AgentAnswer, fds: readonly OwnedFd[]): void {
    if (this.#socket.destroyed) return;
    const line = Buffer.from(`${JSON.stringify(answer)}\n`);
    try {
      const sentBytes = sendFds(
        this.#fd,
        line,
        fds.map(({ fd }) => fd),
      );
      if (sentBytes !== line.length) this.#socket.destroy();
    } catch {
      this.#socket.destroy();
    }
  }

  /** net.Socket has no way to send descriptors: the number is Node's own, and never mixed with socket.write. */
  get #fd(): number {
    const handle: unknown = Object(this.#socket)._handle;
    const fd: unknown = Object(handle).fd;
    if (typeof fd !== "number" || fd < 0) throw new AgentFailure("NotAPod", "the connection is closed");
    return fd;
  }

  #note(handed: {
    readonly want: readonly AgentWant[];
    readonly offeredTo: string | undefined;
    readonly taps: readonly TapGrant[];
    readonly pod: PodIdentity | undefined;
    readonly failure: AgentFailure | undefined;
    readonly tookMs: number;
  }): void {
    const { want, taps, offeredTo, pod, failure, tookMs } = handed;
    const { log, metrics } = this.#parts;
    metrics.answered({ want, taps, code: failure?.code, tookMs });
    const fields = {
      pod: pod?.podUid,
      container: pod?.containerId,
      pid: this.#peer?.pid,
      uid: this.#peer?.uid,
      want: want.map(inWords),
      ...(failure === undefined && taps.length > 0 && { taps }),
      ...(offeredTo !== undefined && { offeredTo }),
      tookMs: Math.round(tookMs * 1000) / 1000,
    };
    if (failure === undefined) log.info({ ...fields, reason: "Granted" }, "descriptors granted");
    else log.warn({ ...fields, reason: failure.code, item: failure.item }, `request refused: ${failure.message}`);
  }
}

function inWords(item: AgentWant): string {
  if (item.kind === "block") return `block ${item.path}`;
  return item.kind === "tap" ? `tap ${item.name} ${item.binding.kind} of ${item.queues} queues` : item.kind;
}

function disposeAll(fds: readonly OwnedFd[]): DisposableStack {
  const stack = new DisposableStack();
  for (const fd of fds) stack.use(fd);
  return stack;
}
