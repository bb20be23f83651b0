import { decode, encode } from "../codec/codec.ts";
import { CLUSTER_BYTES, clusterMapCodec } from "./cluster-map.ts";
import type { DiskContents } from "./disk-contents.ts";
import type { IncomingFile } from "./incoming-file.ts";
import type { IoLane } from "./io-pool.ts";
import type { IoVector } from "./io-vector.ts";
import type { OverlayBudget } from "./overlay-budget.ts";
import { type OverlayFiles, OverlayState } from "./overlay-state.ts";
import { OverlayWrite } from "./overlay-write.ts";
import { OverlayZero } from "./overlay-zero.ts";
import { PartedRead } from "./parted-read.ts";
import { type IoCompletion, SECTOR_BYTES, type Storage } from "./storage.ts";

export interface OverlayDiskParts extends OverlayFiles {
  /** Where the base is read from. */
  readonly imageFd: number;
  readonly readOnly: boolean;
  readonly description: string;
  readonly lane: IoLane;
  /** Where a migration fills the overlay. */
  readonly incoming: IncomingFile | null;
  /** Closed with the disk. */
  readonly resources: readonly Disposable[];
}

/**
 * A read-only base under a sparse overlay, cluster by cluster: what was written is read from the overlay, the rest from
 * the base. The map of what was written is in memory only: overlay and changes end with the process, so there is
 * nothing that a flush could make durable.
 */
export class OverlayDisk implements Storage {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly description: string;
  readonly logicalBlockBytes = SECTOR_BYTES;
  readonly physicalBlockBytes = CLUSTER_BYTES;
  readonly #state: OverlayState;
  readonly #parts: OverlayDiskParts;
  readonly #spareReads: PartedRead[] = [];
  readonly #spareWrites: OverlayWrite[] = [];

  constructor(parts: OverlayDiskParts) {
    this.sizeBytes = parts.sizeBytes;
    this.readOnly = parts.readOnly;
    this.description = parts.description;
    this.#parts = parts;
    this.#state = new OverlayState(parts);
  }

  get overlay(): OverlayBudget {
    return this.#state.budget;
  }

  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    const end = offsetBytes + vector.lengthBytes;
    if (this.#state.endOfRun(offsetBytes, end) === end)
      this.#state.sourceAt(offsetBytes).read(offsetBytes, vector, completion);
    else (this.#spareReads.pop() ?? this.#newRead()).start(offsetBytes, vector, completion);
  }

  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    if (vector.lengthBytes === 0) completion.completed(0);
    else (this.#spareWrites.pop() ?? this.#newWrite()).start(offsetBytes, vector, completion);
  }

  flush(completion: IoCompletion): void {
    completion.completed(0);
  }

  discard(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    new OverlayZero(this.#state, completion, "discard").start(offsetBytes, lengthBytes);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, _mayUnmap: boolean, completion: IoCompletion): void {
    new OverlayZero(this.#state, completion, "zero").start(offsetBytes, lengthBytes);
  }

  claim(): void {
    this.#parts.incoming?.keep();
  }

  contents(): DiskContents {
    const { overlay, imageFd, held, incoming } = this.#parts;
    return {
      fd: overlay.fd,
      sizeBytes: this.sizeBytes,
      isBlockDevice: false,
      outlivesProcess: false,
      isBlank: incoming !== null,
      headFd: null,
      overlay: { imageFd, held },
    };
  }

  saveState(): Uint8Array {
    return encode(clusterMapCodec, this.#parts.held);
  }

  restoreState(state: Uint8Array, version: number): void {
    const held = decode(clusterMapCodec, state, version);
    this.#parts.held.addAll(held);
    // Which of them are holes is not known any more. The budget looks at the file itself.
    this.#state.stored.addAll(held);
  }

  async close(): Promise<void> {
    await this.#parts.lane.close();
    this.#state.budget.close();
    for (const resource of this.#parts.resources) resource[Symbol.dispose]();
    this.#parts.incoming?.[Symbol.dispose]();
  }

  #newRead(): PartedRead {
    return new PartedRead(this.#state, (read) => this.#spareReads.push(read));
  }

  #newWrite(): OverlayWrite {
    return new OverlayWrite(this.#state, (write) => this.#spareWrites.push(write));
  }
}
