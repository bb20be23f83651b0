import { spawn } from "node:child_process";
import { once } from "node:events";
import { type Duplex, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import { errorText } from "../log/error-text.ts";
import type { Chunks } from "./byte-stream.ts";
import type { Compression } from "./format.ts";
import { ImportError } from "./import-error.ts";

const CHUNK_BYTES = 64 * 1024;
/** Of zstd's window, 32 MiB: what all levels but --ultra and --long stay within. */
const ZSTD_WINDOW_LOG = 25;
/** What `xz -9` takes. */
const XZ_MEMORY_MIB = 66;

/** Decompresses as the bytes are asked for. Throws ImportError for damaged ones; errors of `chunks` stay what they are. */
export async function* decompress(
  compression: Compression,
  chunks: Chunks,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const source = new WatchedSource(chunks);
  try {
    yield* compression === "xz" ? throughXz(source, signal) : throughZlib(source, compression);
  } catch (error) {
    if (source.failure !== undefined) throw source.failure;
    if (error instanceof ImportError) throw error;
    const message = `the file cannot be decompressed: ${compression} says "${errorText(error)}"`;
    throw new ImportError("SourceInvalid", message, { cause: error });
  }
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
      try {
        yield* this.#chunks;
      } catch (error) {
        this.failure = error;
        throw error;
      }
    };
    return Readable.from(watched.call(this), { objectMode: false, highWaterMark: CHUNK_BYTES });
  }
}

async function* throughZlib(source: WatchedSource, compression: "gzip" | "zstd"): AsyncGenerator<Uint8Array> {
  const transform: Duplex =
    compression === "gzip"
      ? createGunzip({ chunkSize: CHUNK_BYTES })
      : createZstdDecompress({
          chunkSize: CHUNK_BYTES,
          params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG },
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
async function* throughXz(source: WatchedSource, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const args = ["--decompress", "--stdout", "--threads=1", `--memlimit-decompress=${XZ_MEMORY_MIB}MiB`];
  const child = spawn("xz", args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "" },
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
