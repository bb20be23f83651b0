import type { IncomingMessage } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { errorText } from "../log/error-text.ts";
import type { Logger } from "../log/logger.ts";
import { type BodyLimits, HttpBody } from "./http-body.ts";
import { HttpFailure, type HttpLimits, type HttpRequest, requestFollowing } from "./http-request.ts";
import { ImportError } from "./import-error.ts";
import type { ProgressMeter } from "./progress.ts";

export interface DownloadOptions extends HttpRequest {
  /** With it, pieces may come from a server that does not say which version of the file they are of. */
  readonly hasChecksum: boolean;
  readonly limits: DownloadLimits;
  readonly progress: ProgressMeter;
  readonly log: Logger;
  /** So much of this version is there already. */
  readonly from?: FileVersion & { readonly doneBytes: number };
}

export interface DownloadLimits extends HttpLimits, BodyLimits {
  /** Failures in a row, without a byte in between, after which it is given up, where nothing has come yet. */
  readonly attempts: number;
  /** How long it goes on without a byte, where some of the file is there. */
  readonly patienceMs: number;
  /** Wait before the second attempt; doubles. */
  readonly backOffMs: number;
}

export const defaultDownloadLimits: DownloadLimits = {
  headersMs: 30_000,
  redirects: 10,
  attempts: 6,
  patienceMs: 24 * 3_600_000,
  backOffMs: 1_000,
  idleMs: 30_000,
  slowBytes: 64 * 1024,
  slowWindowMs: 60_000,
};

const BACK_OFF_MAX_MS = 300_000;

/** The server does not go on where it was asked to. */
export class WrongRange extends ImportError {}

/** Which version of the file a server has. */
export interface FileVersion {
  readonly totalBytes: number | null;
  /** For If-Range: a strong ETag, or else the time of its last change. */
  readonly validator: string | undefined;
}

/**
 * One file of a server from its first byte to its last, whatever happens in between: where a connection breaks, stalls or
 * ends too early, the transfer goes on where it was (Range and If-Range, RFC 9110), as long as the file is the same. What
 * has come is not given up for a server that is away for some hours.
 */
export class HttpDownload {
  readonly #options: DownloadOptions;
  #version: FileVersion | undefined;
  #doneBytes = 0;
  #failures = 0;
  /** When the last byte came. */
  #heardMs = performance.now();

  constructor(options: DownloadOptions) {
    this.#options = options;
    this.#version = options.from;
    this.#doneBytes = options.from?.doneBytes ?? 0;
  }

  /** Undefined before the server has answered. */
  get version(): FileVersion | undefined {
    return this.#version;
  }

  /** The bytes. Throws ImportError. The size is in `progress` once the first chunk is there. */
  async *chunks(): AsyncGenerator<Buffer> {
    for (;;) {
      try {
        const response = await this.#open();
        yield* this.#bodyOf(response);
        return;
      } catch (error) {
        if (!(error instanceof HttpFailure)) throw error;
        await this.#beforeAnotherAttempt(error);
      }
    }
  }

  /** A response whose body goes on at #doneBytes. */
  async #open(): Promise<IncomingMessage> {
    const known = this.#version;
    if (known === undefined) {
      const response = await requestFollowing(this.#options, {});
      this.#take(response, versionOf(response, 0));
      return response;
    }
    const { validator } = known;
    const headers = {
      Range: `bytes=${this.#doneBytes}-`,
      ...(validator === undefined ? {} : { "If-Range": validator }),
    };
    const response = await requestFollowing(this.#options, headers);
    const version = versionOf(response, this.#doneBytes);
    const differs = version.validator !== validator || version.totalBytes !== known.totalBytes;
    if (differs) {
      response.destroy();
      const was = `${known.totalBytes ?? "?"} bytes, ${validator ?? "no ETag"}`;
      const is = `${version.totalBytes ?? "?"} bytes, ${version.validator ?? "no ETag"}`;
      const message = `the file at the server became another one after ${this.#doneBytes} bytes (${was}; now ${is})`;
      throw new ImportError("SourceChanged", message);
    }
    this.#options.progress.resumed += 1;
    return response;
  }

  #take(response: IncomingMessage, version: FileVersion): void {
    const encoding = response.headers["content-encoding"] ?? "identity";
    if (encoding !== "identity") {
      response.destroy();
      const message = `the server encodes the file (Content-Encoding: ${encoding}), which was not asked for`;
      throw new ImportError("SourceInvalid", message);
    }
    this.#version = version;
    this.#options.progress.totalBytes = version.totalBytes;
  }

  async *#bodyOf(response: IncomingMessage): AsyncGenerator<Buffer> {
    // A server that knows no ranges begins anew.
    let skipBytes = response.statusCode === 206 ? 0 : this.#doneBytes;
    try {
      for await (const chunk of new HttpBody(response, this.#options.limits).chunks()) {
        const skipped = Math.min(skipBytes, chunk.length);
        skipBytes -= skipped;
        const news = chunk.subarray(skipped);
        if (news.length === 0) continue;
        this.#doneBytes += news.length;
        this.#failures = 0;
        this.#heardMs = performance.now();
        this.#options.progress.trouble = null;
        this.#options.progress.add(news.length);
        yield news;
      }
    } finally {
      response.destroy();
    }
    const total = this.#version?.totalBytes ?? null;
    if (total !== null && this.#doneBytes !== total) throw new HttpFailure(`ends after ${this.#doneBytes} bytes`);
    this.#options.progress.totalBytes = this.#doneBytes;
  }

  async #beforeAnotherAttempt(failure: HttpFailure): Promise<void> {
    const { limits, log, signal, hasChecksum } = this.#options;
    this.#failures += 1;
    const total = this.#version?.totalBytes;
    const where = this.#doneBytes === 0 ? "" : ` after ${this.#doneBytes} of ${total ?? "an unknown number of"} bytes`;
    const reason = this.#doneBytes === 0 ? failure.reason : "SourceIncomplete";
    const message = `the server ${failure.message}${where}, ${this.#failures} times in a row; check the server and the way to it`;
    const mayWait = this.#doneBytes > 0 && performance.now() - this.#heardMs < limits.patienceMs;
    if (this.#failures >= limits.attempts && !mayWait) throw new ImportError(reason, message, { cause: failure });
    if (this.#doneBytes > 0 && this.#version?.validator === undefined && !hasChecksum)
      throw new ImportError(
        "SourceIncomplete",
        `the server ${failure.message}${where}, and gives neither ETag nor Last-Modified, without which the transfer cannot go on safely; give a checksum`,
        { cause: failure },
      );
    const backOffMs = Math.min(limits.backOffMs * 2 ** (this.#failures - 1), BACK_OFF_MAX_MS);
    const waitMs = Math.min(Math.max(backOffMs, failure.retryAfterMs ?? 0), BACK_OFF_MAX_MS);
    if (this.#doneBytes > 0) this.#options.progress.trouble = { reason, message };
    log.warn("the transfer broke off, trying again", {
      reason: failure.reason,
      error: errorText(failure),
      doneBytes: this.#doneBytes,
      failures: this.#failures,
      waitMs,
    });
    await delay(waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
    signal?.throwIfAborted();
  }
}

/** Throws ImportError where a range is not the one that was asked for. */
function versionOf(response: IncomingMessage, fromBytes: number): FileVersion {
  const { etag, "last-modified": lastModified, "content-length": length } = response.headers;
  const isStrong = etag !== undefined && !etag.startsWith("W/");
  const validator = isStrong ? etag : lastModified;
  if (response.statusCode !== 206) return { totalBytes: length === undefined ? null : Number(length), validator };
  const range = response.headers["content-range"] ?? "";
  const match = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(range);
  if (match === null || Number(match[1]) !== fromBytes) {
    response.destroy();
    throw new WrongRange(
      "SourceIncomplete",
      `the server answers with another range ("${range}") than bytes from ${fromBytes} on; give a server that knows Range, or none`,
    );
  }
  return { totalBytes: match[2] === "*" ? null : Number(match[2]), validator };
}
