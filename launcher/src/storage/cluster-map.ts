import { type Codec, fixedBytes, list, record, uint } from "../codec/codec.ts";
import { setBits } from "./bits.ts";

/** What an overlay keeps track of at once: a write of whole clusters needs nothing of the base. */
export const CLUSTER_BYTES = 4096;

const CHUNK_WORDS = 1024;
/** Of a map that is saved or restored: a disk of 256 GiB. */
const MAX_CHUNKS = 2048;
const CHUNK_CLUSTERS = CHUNK_WORDS * 32;
export const SAVED_MAP_LIMIT_BYTES = MAX_CHUNKS * CHUNK_CLUSTERS * CLUSTER_BYTES;

export function clusterOf(offsetBytes: number): number {
  return Math.floor(offsetBytes / CLUSTER_BYTES);
}

/** A set of an overlay's clusters: a bit each, in memory that is taken only where some are (4 KiB for 128 MiB). */
export class ClusterMap {
  readonly #chunks: (Uint32Array | undefined)[] = [];

  has(cluster: number): boolean {
    const chunk = this.#chunks[Math.floor(cluster / CHUNK_CLUSTERS)];
    if (!chunk) return false;
    const bit = cluster % CHUNK_CLUSTERS;
    return (((chunk[bit >>> 5] ?? 0) >>> (bit & 31)) & 1) === 1;
  }

  /** True when all of `first` to `last` are held. */
  hasAll(first: number, last: number): boolean {
    return this.has(first) && this.endOfRun(first, last) > last;
  }

  /** The first cluster after `first` that is not like it; `last` + 1 when all are. */
  endOfRun(first: number, last: number): number {
    const held = this.has(first);
    let cluster = first + 1;
    while (cluster <= last && this.has(cluster) === held) cluster++;
    return cluster;
  }

  /** How many of `first` to `last` are missing. */
  countMissing(first: number, last: number): number {
    let missing = 0;
    for (let cluster = first; cluster <= last; ) {
      const end = this.endOfRun(cluster, last);
      if (!this.has(cluster)) missing += end - cluster;
      cluster = end;
    }
    return missing;
  }

  /** The chunks there are, by their place. */
  get chunks(): readonly { readonly index: number; readonly words: Uint32Array }[] {
    return this.#chunks.flatMap((words, index) => (words ? [{ index, words }] : []));
  }

  /** A map that reaches further than a disk of SAVED_MAP_LIMIT_BYTES cannot be saved. */
  get canBeSaved(): boolean {
    return this.#chunks.length <= MAX_CHUNKS;
  }

  /** Holds what `other` holds too. */
  addAll(other: ClusterMap): void {
    for (const { index, words } of other.chunks) this.addChunk(index, words);
  }

  addChunk(index: number, words: Uint32Array): void {
    const chunk = this.#chunks[index] ?? new Uint32Array(CHUNK_WORDS);
    this.#chunks[index] = chunk.map((word, i) => word | (words[i] ?? 0));
  }

  add(first: number, last: number): void {
    for (const { at, from, to } of chunksOf(first, last)) {
      const chunk = this.#chunks[at] ?? new Uint32Array(CHUNK_WORDS);
      this.#chunks[at] = chunk;
      setBits(chunk, from, to);
    }
  }

  remove(first: number, last: number): void {
    for (const { at, from, to } of chunksOf(first, last)) {
      const chunk = this.#chunks[at];
      if (!chunk) continue;
      if (from === 0 && to === CHUNK_CLUSTERS - 1) this.#chunks[at] = undefined;
      else clearBits(chunk, from, to);
    }
  }
}

const chunkCodec = record({ index: uint(4, MAX_CHUNKS - 1), words: fixedBytes(CHUNK_WORDS * 4) });
const chunksCodec = list(chunkCodec, MAX_CHUNKS);

/** A map as bytes: the chunks that there are. */
export const clusterMapCodec: Codec<ClusterMap> = {
  write(writer, map) {
    const saved = map.chunks.map(({ index, words }) => ({ index, words: new Uint8Array(words.buffer) }));
    chunksCodec.write(writer, saved);
  },
  read(reader) {
    const map = new ClusterMap();
    for (const { index, words } of chunksCodec.read(reader)) map.addChunk(index, new Uint32Array(words.buffer));
    return map;
  },
};

/** The part of `first` to `last` that is in each chunk. */
function* chunksOf(first: number, last: number): Generator<{ at: number; from: number; to: number }> {
  for (let cluster = first; cluster <= last; ) {
    const at = Math.floor(cluster / CHUNK_CLUSTERS);
    const start = at * CHUNK_CLUSTERS;
    yield { at, from: cluster - start, to: Math.min(last - start, CHUNK_CLUSTERS - 1) };
    cluster = start + CHUNK_CLUSTERS;
  }
}

function clearBits(words: Uint32Array, first: number, last: number): void {
  const [firstWord, lastWord] = [first >>> 5, last >>> 5];
  const beforeFirst = ~(~0 << (first & 31));
  const afterLast = ~(~0 >>> (31 - (last & 31)));
  if (firstWord === lastWord) {
    words[firstWord] = (words[firstWord] ?? 0) & (beforeFirst | afterLast);
    return;
  }
  words[firstWord] = (words[firstWord] ?? 0) & beforeFirst;
  words.fill(0, firstWord + 1, lastWord);
  words[lastWord] = (words[lastWord] ?? 0) & afterLast;
}
