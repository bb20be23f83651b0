import type { IncomingMessage } from "node:http";
import { errorText } from "../log/error-text.ts";
import { HttpFailure } from "./http-request.ts";

export interface BodyLimits {
  /** Silence of the server in the middle of the file. */
  readonly idleMs: number;
  /** Over `slowWindowMs` of waiting for the server it must send at least this, else it counts as stalled. */
  readonly slowBytes: number;
  readonly slowWindowMs: number;
}

/** So many chunks may have come that nobody has taken yet. */
const CHUNKS = 4;

/**
 * The body of an answer, each chunk as it was received: a stream that is iterated joins those that wait. One that hangs or
 * trickles is ended; only the time that the server is waited for counts, not that of the volume.
 */
export class HttpBody {
  readonly #response: IncomingMessage;
  readonly #limits: BodyLimits;
  readonly #arrived: Buffer[] = [];
  #end: { readonly failure?: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(response: IncomingMessage, limits: BodyLimits) {
    this.#response = response;
    this.#limits = limits;
    response.on("data", (chunk: Buffer) => {
      this.#arrived.push(chunk);
      if (this.#arrived.length >= CHUNKS) response.pause();
      this.#wake?.();
    });
    response.on("end", () => this.#finish({}));
    response.on("error", (failure) => this.#finish({ failure }));
    response.on("close", () => this.#finish({ failure: new HttpFailure("closed the connection") }));
  }

  /** Throws HttpFailure. */
  async *chunks(): AsyncGenerator<Buffer> {
    const { slowBytes, slowWindowMs } = this.#limits;
    let waitedMs = 0;
    let receivedBytes = 0;
    for (;;) {
      if (this.#arrived.length === 0 && this.#end === undefined) waitedMs += await this.#wait();
      const chunk = this.#arrived.shift();
      if (chunk === undefined) return this.#checkEnd();
      if (this.#response.isPaused()) this.#response.resume();
      receivedBytes += chunk.length;
      if (waitedMs > slowWindowMs) {
        const seconds = Math.round(waitedMs / 1000);
        if (receivedBytes < slowBytes) throw new HttpFailure(`sent ${receivedBytes} bytes in ${seconds} s`);
        waitedMs = 0;
        receivedBytes = 0;
      }
      yield chunk;
    }
  }

  /** For the next chunk or the end; answers for how long. */
  async #wait(): Promise<number> {
    const { idleMs } = this.#limits;
    const startedAtMs = performance.now();
    const silent = () => this.#response.destroy(new HttpFailure(`was silent for ${idleMs / 1000} s`));
    const timer = setTimeout(silent, idleMs);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    clearTimeout(timer);
    return performance.now() - startedAtMs;
  }

  #finish(end: { readonly failure?: unknown }): void {
    this.#end ??= end;
    this.#wake?.();
  }

  #checkEnd(): void {
    const failure = this.#end?.failure;
    if (failure === undefined) return;
    if (failure instanceof HttpFailure) throw failure;
    throw new HttpFailure(`broke the connection (${errorText(failure)})`, { cause: failure });
  }
}
