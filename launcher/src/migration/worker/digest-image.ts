import { createHash } from "node:crypto";
import { fstatSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { parentPort } from "node:worker_threads";
import { preadFully, seekData } from "../../sys/file-io.ts";

export interface DigestImageTask {
  readonly kind: "digest";
  readonly fd: number;
}

const PIECE_BYTES = 64 * 1024;
const BREATH_BYTES = 4 * 1024 * 1024;

/** Says the digest of an image's file, and ends. */
export async function digestImage({ fd }: DigestImageTask): Promise<void> {
  parentPort?.postMessage(await imageDigest(fd));
}

/**
 * SHA-256 of what is not zero in a file, piece by piece behind its offset (u64), and of its size at the end: the same for the
 * same bytes, however many of the zeroes are holes here or there.
 */
export async function imageDigest(fd: number): Promise<Uint8Array> {
  const sizeBytes = fstatSync(fd).size;
  const hash = createHash("sha256");
  const piece = Buffer.alloc(PIECE_BYTES);
  const zeroes = Buffer.alloc(PIECE_BYTES);
  const number = Buffer.alloc(8);
  const addNumber = (value: number) => {
    number.writeBigUInt64LE(BigInt(value));
    hash.update(number);
  };
  for (let at = seekData(fd, 0); at !== null && at < sizeBytes; at = seekData(fd, at)) {
    at -= at % PIECE_BYTES;
    const bytes = piece.subarray(0, preadFully(fd, piece.subarray(0, Math.min(PIECE_BYTES, sizeBytes - at)), at));
    if (!bytes.equals(zeroes.subarray(0, bytes.length))) {
      addNumber(at);
      hash.update(bytes);
    }
    at += PIECE_BYTES;
    // Time to be told to end.
    if (at % BREATH_BYTES === 0) await setImmediate();
    if (at >= sizeBytes) break;
  }
  addNumber(sizeBytes);
  return new Uint8Array(hash.digest());
}
