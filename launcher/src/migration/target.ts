import { randomBytes } from "node:crypto";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { HandOverDecision, MigrationStatus, TargetPhase } from "../../api/migration.ts";
import { StateRefused } from "../codec/state-refused.ts";
import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import type { MovableMachine } from "../machine/movable-machine.ts";
import { isFilledByMigration } from "../storage/open-disks.ts";
import { listenOptions } from "../sys/listen-address.ts";
import { type ConsoleHistory, type DecodedState, decodeState } from "./codec/snapshot-codec.ts";
import { ControlLink } from "./control-link.ts";
import { Phases } from "./handover/phases.ts";
import { type TargetEvent, targetTransitions } from "./handover/target-states.ts";
import { firstOtherImage, type ImageDigest, ImageDigests } from "./image-digests.ts";
import { MIGRATION_LIMITS, type MigrationLimits } from "./limits.ts";
import { MemoryReceiver } from "./memory-receiver.ts";
import { MigrationError } from "./migration-error.ts";
import {
  ALIVE_VERSION,
  DISKS_VERSION,
  type Frame,
  type HelloPayload,
  OLDEST_PROTOCOL_VERSION,
  PROTOCOL_VERSION,
  TOKEN_BYTES,
  USUAL_CONNECTIONS,
} from "./protocol.ts";
import { ReceivedDisks } from "./received-disks.ts";
import { type MachineTls, noticeLoss, strangerAt, tlsOptions } from "./tls.ts";
import { ReadyWorkers } from "./worker/worker-thread.ts";

const HANDSHAKE_LIMIT_MS = 5_000;
/** Strangers may hold so many connections that have said nothing yet. */
const CONNECTION_LIMIT = 16;
const HELLO_LIMIT_MS = 5_000;

export interface TargetParts {
  /** Assembled as incoming, not started. */
  readonly machine: MovableMachine;
  readonly start: () => void;
  readonly uid: string;
  /** Where the control connection comes to; memory comes to the port above. */
  readonly address: string;
  readonly port: number;
  readonly tls: MachineTls;
  readonly log: Logger;
  readonly restoreConsoles: (history: ConsoleHistory) => void;
  /** MIGRATION_LIMITS when absent. */
  readonly limits?: MigrationLimits;
}

/** Takes one machine over from another launcher. */
export class MigrationTarget {
  /** Resolves when the machine runs here; rejects with MigrationError when it never will. */
  readonly running: Promise<void>;
  readonly #parts: TargetParts;
  readonly #phases = new Phases<TargetPhase, TargetEvent>(targetTransitions, "Listening");
  readonly #settle: { resolve: () => void; reject: (error: Error) => void };
  readonly #server: Server;
  #message = "waiting for the source";
  #link: ControlLink | null = null;
  /** They load while nobody has come yet. */
  #workers: ReadyWorkers | null = null;
  #receiver: MemoryReceiver | null = null;
  #images: ImageDigests | null = null;
  /** Whether the images of all overlays are those of the source; there may be none. */
  #imagesMatch = false;
  /** See the protocol's Alive. */
  #work = 0;
  #lastPass = -1;
  #state: { readonly pass: number; readonly decoded: DecodedState; readonly arrivedMs: number } | null = null;

  constructor(parts: TargetParts) {
    this.#parts = parts;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.running = promise;
    promise.catch(() => {});
    this.#settle = { resolve, reject };
    this.#server = createServer({
      ...tlsOptions(parts.tls),
      requestCert: true,
      rejectUnauthorized: true,
      handshakeTimeout: HANDSHAKE_LIMIT_MS,
    });
    this.#server.maxConnections = CONNECTION_LIMIT;
    this.#server.on("secureConnection", (socket) => this.#connected(socket));
    this.#server.on("tlsClientError", (error) =>
      parts.log.debug("a stranger came for the migration", { reason: "MigrationStranger", why: errorText(error) }),
    );
  }

  get phase(): TargetPhase {
    return this.#phases.current;
  }

  /** Rejects where the port cannot be had. */
  async listen(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once("error", reject);
    this.#server.listen(listenOptions(this.#parts), resolve);
    await promise;
    this.#workers = new ReadyWorkers(USUAL_CONNECTIONS);
  }

  status(): MigrationStatus {
    return { role: "target", phase: this.phase, message: this.#message };
  }

  /** Ends the reception. Rejects with MigrationError once all is here: then it must be decided. */
  async cancel(): Promise<void> {
    if (this.phase === "Prepared" || !this.#phases.may("failed"))
      throw new MigrationError(`it is too late to cancel here: the migration is ${this.phase}`);
    this.#fail("cancelled");
  }

  /** See MigrationSource.decide. */
  async decide(winner: HandOverDecision): Promise<void> {
    const event = ({ source: "decidedSource", target: "decidedTarget", neither: "decidedNeither" } as const)[winner];
    if (!this.#phases.may(event))
      throw new MigrationError(`there is nothing to decide so: the migration is ${this.phase}`);
    const before = this.phase;
    this.#phases.take(event);
    if (this.phase === before) return;
    if (this.phase === "Running") this.#start();
    else this.#end(`decided: ${winner}`);
  }

  #connected(socket: TLSSocket): void {
    const stranger = strangerAt(socket) ?? (this.#link ? "a migration is under way" : undefined);
    if (stranger !== undefined || this.phase !== "Listening") {
      this.#parts.log.warn("a connection for the migration is refused", {
        reason: "MigrationStranger",
        why: stranger ?? `the migration is ${this.phase}`,
      });
      socket.destroy();
      return;
    }
    socket.setNoDelay(true);
    noticeLoss(socket);
    const silence = setTimeout(() => socket.destroy(), HELLO_LIMIT_MS);
    const link: ControlLink = new ControlLink(socket, {
      received: (frame) => {
        clearTimeout(silence);
        // The first one that says who it is.
        if (this.#link === null && frame.name === "hello" && this.phase === "Listening")
          this.#welcome(link, frame.payload);
        else if (this.#link === link) this.#received(frame);
        else throw new MigrationError("a migration is under way");
      },
      lost: (why) => {
        clearTimeout(silence);
        if (this.#link === link) this.#lost(why);
      },
    });
  }

  #welcome(link: ControlLink, hello: HelloPayload): void {
    const refusal = this.#refusal(hello);
    if (refusal !== undefined) {
      this.#parts.log.warn("the source is refused", { reason: "MigrationRefused", why: refusal });
      this.#message = `the last source was refused: ${refusal}`;
      link.send("refused", { message: refusal.slice(0, 1000) });
      void link.end();
      return;
    }
    const { machine, address, port, tls, limits = MIGRATION_LIMITS } = this.#parts;
    this.#link = link;
    if (hello.version >= ALIVE_VERSION) link.keepAlive(limits, () => this.#beat());
    this.#phases.take("welcomed");
    this.#note(`receiving from launcher ${hello.launcherVersion}`);
    const token = randomBytes(TOKEN_BYTES);
    const disks = new ReceivedDisks(machine.disks);
    const { wanted, images } = disks;
    this.#images = new ImageDigests(images);
    this.#imagesMatch = images.length === 0;
    using workers = this.#workers ?? new ReadyWorkers(0);
    this.#workers = null;
    this.#receiver = new MemoryReceiver({
      workers,
      memory: machine.memory,
      disks,
      address,
      port: port + 1,
      tls,
      token,
      connections: hello.connections,
      onPass: (pass) => this.#passed(pass),
      // With all here it is only the end of the threads; before, memory is not whole.
      onBroken: (error) => {
        if (this.phase === "Receiving") this.#fail(error.message);
      },
    });
    this.#receiver.listening.then(
      () => {
        link.send("welcome", { version: hello.version, token: new Uint8Array(token), memoryPort: port + 1 });
        if (hello.version >= DISKS_VERSION) link.send("wantDisks", { disks: wanted });
      },
      (error: unknown) => this.#fail(`nothing can listen for memory: ${errorText(error)}`),
    );
  }

  #beat(): number {
    const isAtWork = this.#images?.isAtWork || this.#receiver?.hasWorked();
    if (isAtWork) this.#work++;
    return this.#work;
  }

  #refusal(hello: HelloPayload): string | undefined {
    const { machine, uid } = this.#parts;
    if (hello.version < OLDEST_PROTOCOL_VERSION || hello.version > PROTOCOL_VERSION)
      return `protocol version ${hello.version}; this launcher speaks ${OLDEST_PROTOCOL_VERSION} to ${PROTOCOL_VERSION}`;
    if (hello.uid !== uid) return `machine ${hello.uid} is not ${uid}`;
    if (hello.connections < 1) return "no connection for memory";
    const copied = machine.disks.filter(({ config }) => isFilledByMigration(config));
    if (hello.version < DISKS_VERSION && copied.length > 0)
      return `its launcher copies no disks, and ${copied.map(({ name }) => name).join(", ")} must be copied; restart the machine instead`;
    const { sizeBytes } = machine.memory.memory;
    if (hello.memoryBytes !== sizeBytes) return `${hello.memoryBytes} bytes of memory, and ${sizeBytes} here`;
    try {
      machine.checkProcessors(hello.processors.map(({ cpuid }) => cpuid));
      return undefined;
    } catch (error) {
      if (error instanceof StateRefused) return error.message;
      throw error;
    }
  }

  /** What it throws ends the link. */
  #received(frame: Frame): void {
    switch (frame.name) {
      case "state":
        if (this.phase !== "Receiving" || this.#state) throw new MigrationError("a state out of turn");
        this.#state = {
          pass: frame.payload.pass,
          decoded: decodeState(frame.payload.state),
          arrivedMs: performance.now(),
        };
        this.#loadWhenWhole();
        return;
      case "images":
        if (this.phase !== "Receiving" || this.#imagesMatch) throw new MigrationError("images out of turn");
        void this.#compareImages(frame.payload.images);
        return;
      case "commit":
        if (!this.#phases.may("commit")) throw new MigrationError("a commit out of turn");
        this.#phases.take("commit");
        this.#start();
        return;
      case "abort":
        if (this.#phases.may("failed")) this.#fail(`the source gave up: ${frame.payload.message}`);
        return;
      case "alive":
        return;
      default:
        throw new MigrationError(`${frame.name} is no message of a source`);
    }
  }

  async #compareImages(theirs: readonly ImageDigest[]): Promise<void> {
    try {
      const other = firstOtherImage((await this.#images?.done) ?? [], theirs);
      if (this.phase !== "Receiving") return;
      if (other === null) {
        this.#imagesMatch = true;
        this.#link?.send("imagesMatch", {});
      } else this.#fail(`disk ${other} is over another image here than in the source; give both the same image`);
    } catch (error) {
      this.#fail(errorText(error));
    }
  }

  #passed(pass: number): void {
    if (this.phase !== "Receiving") return;
    this.#lastPass = pass;
    this.#link?.send("passReceived", { pass });
    this.#loadWhenWhole();
  }

  #loadWhenWhole(): void {
    if (this.#state === null || this.#lastPass !== this.#state.pass) return;
    if (!this.#imagesMatch) {
      this.#fail("the source has not said what the images of its disks are");
      return;
    }
    const { decoded, arrivedMs } = this.#state;
    const startedMs = performance.now();
    try {
      const elapsedNs = BigInt(Math.round((startedMs - arrivedMs) * 1e6));
      this.#parts.machine.restore(decoded.snapshot, { elapsedNs, version: decoded.version });
      this.#parts.restoreConsoles(decoded.consoles);
    } catch (error) {
      this.#fail(errorText(error));
      return;
    }
    this.#phases.take("prepared");
    this.#note("all is here; waiting for the source's last word");
    this.#link?.send("prepared", { loadMs: Math.round(performance.now() - startedMs) });
  }

  #start(): void {
    const { machine, start } = this.#parts;
    const startedMs = performance.now();
    try {
      machine.claimDisks();
      start();
    } catch (error) {
      // The source will not go on: this is the machine's crash.
      this.#message = errorText(error);
      this.#settle.reject(error instanceof Error ? error : new MigrationError(this.#message));
      return;
    }
    this.#link?.send("running", { resumeMs: Math.round(performance.now() - startedMs) });
    this.#note("the machine runs here");
    this.#settle.resolve();
    void this.#close();
  }

  #lost(why: string): void {
    if (this.phase === "Prepared") {
      this.#phases.take("linkLost");
      this.#note(`the source's last word did not come (${why}); it must be decided which side the machine is on`);
    } else if (this.#phases.may("linkLost")) this.#fail(`the connection to the source broke: ${why}`);
  }

  #fail(why: string): void {
    if (!this.#phases.may("failed")) return;
    this.#phases.take("failed");
    this.#link?.send("refused", { message: why.slice(0, 1000) });
    this.#end(why);
  }

  #end(why: string): void {
    this.#note(why);
    const error = new MigrationError(`the machine never came: ${why}`);
    // This process ends then.
    void this.#close().then(() => this.#settle.reject(error));
  }

  /** Resolves when the source has heard all that was said. */
  async #close(): Promise<void> {
    this.#server.close();
    this.#workers?.[Symbol.dispose]();
    this.#images?.[Symbol.dispose]();
    void this.#receiver?.close();
    await this.#link?.end();
  }

  #note(message: string): void {
    this.#message = message;
    this.#parts.log.info("migration", { reason: "Migration", phase: this.phase, message });
  }
}
