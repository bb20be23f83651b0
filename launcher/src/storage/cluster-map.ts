/** What an overlay keeps track of at once: a write of whole clusters needs nothing of the base. */
export const CLUSTER_BYTES = 4096;

const CHUNK_WORDS = 1024;
const CHUNK_CLUSTERS = CHUNK_WORDS * 32;

export function clusterOf(offsetBytes: number): number {
  return Math.floor(offsetBytes / CLUSTER_BYTES);
}

/** Which clusters an overlay holds: a bit each, in memory that is taken only where some are (4 KiB for 128 MiB). */
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

  add(first: number, last: number): void {
    for (let cluster = first; cluster <= last; ) {
      const at = Math.floor(cluster / CHUNK_CLUSTERS);
      const chunk = this.#chunks[at] ?? new Uint32Array(CHUNK_WORDS);
      this.#chunks[at] = chunk;
      const start = at * CHUNK_CLUSTERS;
      setBits(chunk, cluster - start, Math.min(last - start, CHUNK_CLUSTERS - 1));
      cluster = start + CHUNK_CLUSTERS;
    }
  }
}

/** Sets bits `first` to `last`, whole words at a time. */
function setBits(words: Uint32Array, first: number, last: number): void {
  const [firstWord, lastWord] = [first >>> 5, last >>> 5];
  const fromFirst = ~0 << (first & 31);
  const upToLast = ~0 >>> (31 - (last & 31));
  if (firstWord === lastWord) {
    words[firstWord] = (words[firstWord] ?? 0) | (fromFirst & upToLast);
    return;
  }
  words[firstWord] = (words[firstWord] ?? 0) | fromFirst;
  words.fill(0xffffffff, firstWord + 1, lastWord);
  words[lastWord] = (words[lastWord] ?? 0) | upToLast;
}
