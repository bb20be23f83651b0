import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join, posix } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip, createZstdCompress } from "node:zlib";
import { type Header, pack as newPack, type Pack } from "tar-stream";

/**
 * One entry of a layer that is not taken from a directory as it stands. Paths are relative to the image's root; `owner` is
 * user and group, root where it is left out.
 */
export type OciFile =
  | { path: string; content: string | Uint8Array; mode?: number; owner?: number }
  | { path: string; source: string; mode?: number }
  | { path: string; symlink: string }
  | { path: string; directory: true; mode?: number };

/** What a layer is made of: a directory of the host (placed at `at`), single files, or a ready uncompressed tar. */
export type OciLayer = { dir: string; at?: string } | { files: readonly OciFile[] } | { tar: string };

export type LayerCompression = "none" | "gzip" | "zstd";

export interface WrittenLayer {
  /** Digest of the uncompressed tar, as the image configuration wants it. */
  diffId: string;
  /** Digest and size of the blob as written. */
  digest: string;
  sizeBytes: number;
  mediaType: string;
}

/** Something that a layer cannot hold, or that contradicts itself. */
export class OciLayerError extends Error {
  override name = "OciLayerError";
  readonly path: string;
  constructor(path: string, problem: string) {
    super(`${path}: ${problem}`);
    this.path = path;
  }
}

const mediaTypes: Record<LayerCompression, string> = {
  none: "application/vnd.oci.image.layer.v1.tar",
  gzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  zstd: "application/vnd.oci.image.layer.v1.tar+zstd",
};

/** Writes one layer blob to `outFile`: sorted, owned by root unless told, all times 0: equal input gives equal bytes. */
export async function writeLayer(
  layer: OciLayer,
  outFile: string,
  compression: LayerCompression,
): Promise<WrittenLayer> {
  const plain = new Measure();
  const stored = new Measure();
  const compressor = compression === "gzip" ? [createGzip()] : compression === "zstd" ? [createZstdCompress()] : [];
  const chain: NodeJS.ReadWriteStream[] = [plain, ...compressor, stored];
  const blob = createWriteStream(outFile);
  if ("tar" in layer) {
    await pipeline([createReadStream(layer.tar), ...chain, blob]);
  } else {
    const pack = newPack();
    const written = pipeline([Readable.from(pack), ...chain, blob]);
    const packed = packEntries(pack, "dir" in layer ? entriesOfDir(layer.dir, layer.at ?? "") : layer.files);
    // A failed entry must end the pipeline too, or it would wait for the rest of the tar for ever.
    packed.catch((error) => pack.destroy(error));
    await Promise.all([packed, written]);
  }
  return {
    diffId: plain.digest(),
    digest: stored.digest(),
    sizeBytes: stored.sizeBytes,
    mediaType: mediaTypes[compression],
  };
}

/** Counts and hashes what flows through. */
class Measure extends Transform {
  readonly #hash = createHash("sha256");
  sizeBytes = 0;

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: (error: null, data: Buffer) => void): void {
    this.#hash.update(chunk);
    this.sizeBytes += chunk.length;
    done(null, chunk);
  }

  digest(): string {
    return `sha256:${this.#hash.digest("hex")}`;
  }
}

type Entry = OciFile | { path: string; hardlink: string };

async function packEntries(pack: Pack, entries: AsyncIterable<Entry> | Iterable<Entry>): Promise<void> {
  const directories = new Set<string>([""]);
  for await (const entry of entries) {
    const path = normalise(entry.path);
    if (path === "") continue;
    addParents(pack, path, directories);
    await packEntry(pack, path, entry, directories);
  }
  pack.finalize();
}

async function packEntry(pack: Pack, path: string, entry: Entry, directories: Set<string>): Promise<void> {
  if ("directory" in entry) {
    if (directories.has(path)) return;
    directories.add(path);
    pack.entry(header(`${path}/`, "directory", entry.mode ?? 0o755));
  } else if ("symlink" in entry) {
    pack.entry({ ...header(path, "symlink", 0o777), linkname: entry.symlink });
  } else if ("hardlink" in entry) {
    pack.entry({ ...header(path, "link", 0o644), linkname: normalise(entry.hardlink) });
  } else if ("content" in entry) {
    const { mode = 0o644, owner = 0 } = entry;
    pack.entry({ ...header(path, "file", mode), uid: owner, gid: owner }, Buffer.from(entry.content));
  } else {
    const { mode, size } = await lstat(entry.source);
    const sink = pack.entry({ ...header(path, "file", entry.mode ?? mode & 0o7777), size });
    await pipeline(createReadStream(entry.source, { highWaterMark: 1 << 20 }), sink);
  }
}

function header(
  name: string,
  type: "file" | "directory" | "symlink" | "link",
  mode: number,
): Partial<Header> & { name: string } {
  return { name, type, mode, uid: 0, gid: 0, mtime: new Date(0) };
}

function addParents(pack: Pack, path: string, directories: Set<string>): void {
  const parts = path.split("/").slice(0, -1);
  for (let depth = 1; depth <= parts.length; depth++) {
    const parent = parts.slice(0, depth).join("/");
    if (directories.has(parent)) continue;
    directories.add(parent);
    pack.entry(header(`${parent}/`, "directory", 0o755));
  }
}

function normalise(path: string): string {
  const clean = posix.normalize(`/${path}`).slice(1).replace(/\/$/, "");
  if (path.split("/").includes("..")) throw new OciLayerError(path, "a path in a layer must not contain '..'");
  return clean;
}

/** The files under `dir` in a fixed order; files with several names become hard links to the first. */
async function* entriesOfDir(dir: string, at: string): AsyncGenerator<Entry> {
  const firstName = new Map<string, string>();
  async function* walk(relative: string): AsyncGenerator<Entry> {
    const names = (await readdir(join(dir, relative))).sort();
    for (const name of names) {
      const source = join(dir, relative, name);
      const path = posix.join(at, relative, name);
      const stat = await lstat(source);
      if (stat.isDirectory()) {
        yield { path, directory: true, mode: stat.mode & 0o7777 };
        yield* walk(posix.join(relative, name));
      } else if (stat.isSymbolicLink()) {
        yield { path, symlink: await readlink(source) };
      } else if (stat.isFile()) {
        const inode = `${stat.dev}:${stat.ino}`;
        const first = stat.nlink > 1 ? firstName.get(inode) : undefined;
        if (first === undefined) firstName.set(inode, path);
        yield first === undefined ? { path, source } : { path, hardlink: first };
      } else {
        throw new OciLayerError(source, "only files, directories and links go into a layer from a directory");
      }
    }
  }
  yield* walk("");
}
