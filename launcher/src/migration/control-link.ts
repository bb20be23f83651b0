import type { TLSSocket } from "node:tls";
import { errorText } from "../log/error-text.ts";
import { Heartbeat } from "./heartbeat.ts";
import type { MigrationLimits } from "./limits.ts";
import { encodeFrame, type Frame, type FrameName, FrameReader, type PayloadOf } from "./protocol.ts";

/** How long the other side may take to close behind the last words. */
const LINGER_MS = 1_000;

export interface LinkListener {
  /** In order. What it throws ends the link. */
  received(frame: Frame): void;
  /** Once: nothing more comes, and nothing that is sent arrives. */
  lost(why: string): void;
}

/** The control connection, as frames. */
export class ControlLink implements Disposable {
  readonly #socket: TLSSocket;
  #isLost = false;
  #isEnding = false;
  #heartbeat: Heartbeat | null = null;
  #why = "the other launcher closed the connection";

  constructor(socket: TLSSocket, listener: LinkListener) {
    this.#socket = socket;
    const reader = new FrameReader();
    socket.on("data", (chunk: Buffer) => {
      this.#heartbeat?.heard();
      try {
        for (const frame of reader.push(chunk)) if (!this.#isLost && !this.#isEnding) listener.received(frame);
      } catch (error) {
        this.#why = errorText(error);
        socket.destroy();
      }
    });
    socket.on("error", (error) => {
      this.#why = error.message;
    });
    socket.on("close", () => {
      this.#heartbeat?.[Symbol.dispose]();
      if (this.#isLost) return;
      this.#isLost = true;
      listener.lost(this.#why);
    });
  }

  /** From now on both sides say that they are alive; one that does not is lost. `work` is asked at each beat. */
  keepAlive(limits: MigrationLimits, work: () => number): void {
    this.#heartbeat = new Heartbeat(limits, {
      beat: () => this.send("alive", { work: work() >>> 0 }),
      silent: () => {
        this.#why = `nothing came from the other launcher for ${limits.silentBeats * limits.beatMs} ms`;
        this.#socket.destroy();
      },
    });
  }

  send<Name extends FrameName>(name: Name, payload: PayloadOf<Name>): void {
    if (this.#socket.writable) this.#socket.write(encodeFrame(name, payload));
  }

  /**
   * Ends it behind what was sent; `lost` is told. Resolves when the other side has closed, too, or takes too long to: a
   * process that ends before, over bytes that it has not read, resets the connection, and what it said last is lost with
   * that (RFC 1122, 4.2.2.13). What comes meanwhile is read and dropped.
   */
  async end(): Promise<void> {
    this.#isEnding = true;
    this.#heartbeat?.[Symbol.dispose]();
    const socket = this.#socket;
    if (socket.closed) return;
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    socket.once("close", resolve);
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.end();
    await closed;
    clearTimeout(timer);
  }

  /** Ends it at once; nobody is told. */
  [Symbol.dispose](): void {
    this.#isLost = true;
    this.#heartbeat?.[Symbol.dispose]();
    this.#socket.destroy();
  }
}
