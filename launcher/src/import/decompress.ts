import { spawn } from "node:child_process";
import { once } from "node:events";
import { type Duplex, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import { errorCode, errorText } from "../log/error-text.ts";
import type { Chunks } from "./byte-stream.ts";
import type { Compression } from "./format.ts";
import { ImportError } from "./import-error.ts";
import { windowTooLarge } from "./window.ts";

const CHUNK_BYTES = 64 * 1024;
/** In what xz says when a block's dictionary is larger than its limit. */
const XZ_MEMORY_REACHED = "Memory usage limit reached";
/** What xz takes beside its dictionary. */
const XZ_OWN_BYTES = 2 * 2 ** 20;

export interface Decompression {
  readonly compression: Compression;
  /** How large a window may be that is kept in memory; a power of two. */
  readonly windowLimitBytes: number;
  readonly signal: AbortSignal;
}

/** Decompresses as the bytes are asked for. Throws ImportError for damaged ones; errors of `chunks` stay what they are. */
export async function* decompress(chunks: Chunks, how: Decompression): AsyncGenerator<Uint8Array> {
  const { compression, windowLimitBytes } = how;
  const source = new WatchedSource(chunks);
  try {
    yield* compression === "xz" ? throughXz(source, how) : throughZlib(source, compression, windowLimitBytes);
  } catch (error) {
    if (source.failure !== undefined) throw source.failure;
    if (error instanceof ImportError) throw error;
    if (isWindowTooLarge(error)) throw windowTooLarge(compression, undefined, windowLimitBytes);
    const message = `the file cannot be decompressed: ${compression} says "${errorText(error)}"`;
    throw new ImportError("SourceInvalid", message, { cause: error });
  }
}

/** Only a later block or frame comes so far: the first one's header was looked at. */
function isWindowTooLarge(error: unknown): boolean {
  return (
    errorCode(error) === "ZSTD_error_frameParameter_windowTooLarge" || errorText(error).includes(XZ_MEMORY_REACHED)
  );
}

/** Keeps what went wrong with the source apart from what goes wrong with its bytes. */
class WatchedSource {
  failure: unknown;
  readonly #chunks: Chunks;

  constructor(chunks: Chunks) {
    this.#chunks = chunks;
  }

  readable(): Readable {
    const watched = async function* (this: WatchedSource) {
      // A reader that breaks off throws its own error in at the yield.
      let isRead = false;
      try {
        for await (const chunk of this.#chunks) {
          isRead = true;
          yield chunk;
          isRead = false;
        }
      } catch (error) {
        if (!isRead) this.failure = error;
        throw error;
      }
    };
    return Readable.from(watched.call(this), { objectMode: false, highWaterMark: CHUNK_BYTES });
  }
}

async function* throughZlib(source: WatchedSource, compression: "gzip" | "zstd", windowLimitBytes: number) {
  const transform: Duplex =
    compression === "gzip"
      ? createGunzip({ chunkSize: CHUNK_BYTES })
      : createZstdDecompress({
          chunkSize: CHUNK_BYTES,
          params: { [constants.ZSTD_d_windowLogMax]: Math.log2(windowLimitBytes) },
        });
  const fed = pipeline(source.readable(), transform);
  // The same error comes out of the transform.
  fed.catch(() => undefined);
  try {
    for await (const chunk of transform) yield chunk as Uint8Array;
    await fed;
  } finally {
    transform.destroy();
  }
}

/** By Debian's xz, which is part of the launcher's image: Node has none. */
async function* throughXz(source: WatchedSource, { windowLimitBytes, signal }: Decompression) {
  const limitBytes = windowLimitBytes + XZ_OWN_BYTES;
  const args = ["--decompress", "--stdout", "--threads=1", `--memlimit-decompress=${limitBytes}`];
  const child = spawn("xz", args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", LC_ALL: "C" },
    signal,
    killSignal: "SIGKILL",
  });
  const ended = once(child, "close") as Promise<[code: number | null]>;
  ended.catch(() => undefined);
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    if (said.length < 1_000) said += text;
  });
  const fed = pipeline(source.readable(), child.stdin);
  // A child that ends early breaks its pipe: what it said is the reason.
  fed.catch(() => undefined);
  try {
    for await (const chunk of child.stdout) yield chunk as Uint8Array;
    const [code] = await ended;
    if (source.failure !== undefined) throw source.failure;
    if (code !== 0) throw new Error(said.trim().replace(/^(?:\S*xz): (?:\(stdin\): )?/, "") || `it ended with ${code}`);
    await fed;
  } finally {
    child.kill("SIGKILL");
  }
}
