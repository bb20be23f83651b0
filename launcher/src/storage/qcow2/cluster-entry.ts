import type { Qcow2Header } from "./header.ts";

/** Where a part of the disk comes from. */
export type ExtentKind = "zero" | "data" | "compressed" | "damaged";

/** An answer that is filled again and again: none is made for a request. */
export class Extent {
  kind: ExtentKind = "zero";
  /** Data: where the first byte that was asked for lies. Compressed: where the cluster's compressed bytes begin. */
  hostOffsetBytes = 0;
  /** Of the compressed bytes, at most; what follows them in the last sector counts too. */
  compressedBytes = 0;
  /** Damaged: what is wrong, as the end of a sentence about an L2 entry. */
  problem = "";
}

const COMPRESSED = 0x4000_0000;
const FLAGS = 0xc000_0000;
const ZERO = 1;
const SECTOR_BYTES = 512;

/**
 * What an L2 entry says of its cluster (QEMU docs/interop/qcow2, "L2 table entry"). Every offset in the answer lies
 * inside the file and behind its header. Reserved bits are ignored, as QEMU does.
 */
export class ClusterEntryDecoder {
  readonly #header: Qcow2Header;
  /** Bits of the upper half of a compressed entry from this one on are a count of sectors. */
  readonly #sectorsShift: number;

  constructor(header: Qcow2Header) {
    this.#header = header;
    this.#sectorsShift = 62 - (Math.log2(header.clusterBytes) - 8) - 32;
  }

  /** Fills `extent` for subcluster `subcluster` (0 without extended entries) of the entry at `at` in `table`. */
  decode(table: DataView, at: number, subcluster: number, extent: Extent): void {
    const [high, low] = [table.getUint32(at), table.getUint32(at + 4)];
    if ((high & COMPRESSED) !== 0) this.#decodeCompressed(high, low, extent);
    else if (this.#header.hasExtendedL2) {
      const [zeroes, data] = [table.getUint32(at + 8), table.getUint32(at + 12)];
      this.#decodeSubcluster(hostOffset(high, low), (zeroes >>> subcluster) & 1, (data >>> subcluster) & 1, extent);
      if (extent.kind === "data") extent.hostOffsetBytes += subcluster * this.#header.subclusterBytes;
    } else if ((low & ZERO) === 0) this.#decodeData(hostOffset(high, low), extent);
    else if (this.#header.version === 3) extent.kind = "zero";
    else damaged(extent, "has a zero flag, which version 2 does not know");
  }

  #decodeCompressed(high: number, low: number, extent: Extent): void {
    const { clusterBytes, fileBytes } = this.#header;
    const offset = (high & (2 ** this.#sectorsShift - 1)) * 2 ** 32 + low;
    const moreSectors = (high & ~FLAGS) >>> this.#sectorsShift;
    if (offset < clusterBytes || offset >= fileBytes) {
      damaged(extent, `names compressed bytes at ${offset} of a file of ${fileBytes}`);
      return;
    }
    extent.kind = "compressed";
    extent.hostOffsetBytes = offset;
    extent.compressedBytes = Math.min((moreSectors + 1) * SECTOR_BYTES - (offset % SECTOR_BYTES), fileBytes - offset);
  }

  #decodeSubcluster(offset: number, isZero: number, isData: number, extent: Extent): void {
    if (isZero === 1 && isData === 1) damaged(extent, "has a subcluster with data that reads as zeroes");
    else if (isData === 0) extent.kind = "zero";
    else if (offset === 0) damaged(extent, "has a subcluster with data nowhere");
    else this.#decodeData(offset, extent);
  }

  #decodeData(offset: number, extent: Extent): void {
    const { clusterBytes, fileBytes } = this.#header;
    if (offset === 0) extent.kind = "zero";
    else if (offset % clusterBytes !== 0) damaged(extent, `names a cluster at ${offset}, which is not aligned`);
    else if (offset >= fileBytes) damaged(extent, `names a cluster at ${offset} of a file of ${fileBytes}`);
    else {
      extent.kind = "data";
      extent.hostOffsetBytes = offset;
    }
  }
}

/** Bits 9 to 55 of an entry of either level. */
export function hostOffset(high: number, low: number): number {
  return (high & 0x00ff_ffff) * 2 ** 32 + ((low & ~0x1ff) >>> 0);
}

function damaged(extent: Extent, problem: string): void {
  extent.kind = "damaged";
  extent.problem = problem;
}
