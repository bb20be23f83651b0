import { createHash } from "node:crypto";
import { fstatSync, fsync, renameSync, rmSync } from "node:fs";
import { promisify } from "node:util";
import type { ImportSource } from "../../api/import.ts";
import { errorCode } from "../log/error-text.ts";
import { fdatasync, ftruncate, preadFully, pwriteFully } from "../sys/file-io.ts";
import { openInRoot } from "../sys/open-in-root.ts";

/** How much of a raw file of a server is durable in the volume, and which version of which file that is. */
export interface TransferRecord {
  /** See `sourceDigest`. */
  readonly source: string;
  /** What the server calls the version: a strong ETag, or else the time of its last change; null without. */
  readonly validator: string | null;
  /** Null where the server does not say. */
  readonly totalBytes: number | null;
  readonly durableBytes: number;
}

const VERSION = 1;
/** A server's headers are shorter, and with them what it can have written here. */
const MAX_BYTES = 64 * 1024;
const RECORD_FILE = "disk.img.import";
const NEW_FILE = `${RECORD_FILE}.new`;

const sync = promisify(fsync);

/** Tells sources apart. A digest: a URL may hold secrets, and the record lies in a volume. */
export function sourceDigest({ url, checksum }: Extract<ImportSource, { kind: "http" }>): string {
  return digestOf(JSON.stringify([url, checksum?.algorithm, checksum?.digest.toLowerCase()]));
}

export function encodeRecord(record: TransferRecord): Buffer {
  const { source, validator, totalBytes, durableBytes } = record;
  const body = JSON.stringify({ version: VERSION, source, validator, totalBytes, durableBytes });
  return Buffer.from(`${digestOf(body)} ${body}\n`);
}

/** Undefined for what is none: torn, damaged, or of another version. */
export function decodeRecord(bytes: Uint8Array): TransferRecord | undefined {
  const text = Buffer.from(bytes).toString("utf8");
  const [digest, body = ""] = [text.slice(0, 64), text.slice(65, -1)];
  if (digestOf(body) !== digest) return undefined;
  const { version, source, validator, totalBytes, durableBytes } = JSON.parse(body);
  if (version !== VERSION) return undefined;
  return { source, validator, totalBytes, durableBytes };
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** The record beside the disk of a volume. There is one or none, whenever the process or the node ends. */
export class RecordFile {
  readonly #directoryFd: number;

  /** `directoryFd` is the volume's, and stays the caller's. */
  constructor(directoryFd: number) {
    this.#directoryFd = directoryFd;
  }

  /** Undefined where there is none that can be believed. */
  read(): TransferRecord | undefined {
    try {
      // To write, so that a pipe of that name is not waited for.
      using file = openInRoot(this.#directoryFd, RECORD_FILE, { write: true, noFollow: true, noSymlinks: true });
      const { size } = fstatSync(file.fd);
      if (!fstatSync(file.fd).isFile() || size > MAX_BYTES) return undefined;
      const bytes = Buffer.alloc(size);
      return decodeRecord(bytes.subarray(0, preadFully(file.fd, bytes, 0)));
    } catch {
      // Whatever it is, the import begins at the first byte.
      return undefined;
    }
  }

  /** Resolves once it is durable. What it tells of has to be so before. */
  async write(record: TransferRecord): Promise<void> {
    {
      using file = openInRoot(this.#directoryFd, NEW_FILE, {
        write: true,
        create: true,
        noFollow: true,
        noSymlinks: true,
      });
      ftruncate(file.fd, 0);
      pwriteFully(file.fd, encodeRecord(record), 0);
      await sync(file.fd);
    }
    renameSync(this.#pathOf(NEW_FILE), this.#pathOf(RECORD_FILE));
    await sync(this.#directoryFd);
  }

  /** Nothing goes on from it any more, also when the node ends now. */
  forget(): void {
    let wasThere = false;
    for (const name of [NEW_FILE, RECORD_FILE]) {
      try {
        rmSync(this.#pathOf(name));
        wasThere = true;
      } catch (error) {
        if (errorCode(error) !== "ENOENT") throw error;
      }
    }
    if (wasThere) fdatasync(this.#directoryFd);
  }

  #pathOf(name: string): string {
    return `/proc/self/fd/${this.#directoryFd}/${name}`;
  }
}
