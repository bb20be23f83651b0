import { Mapping } from "../sys/mapping.ts";
import { CLUSTER_BYTES, clusterOf } from "./cluster-map.ts";
import { IoVector } from "./io-vector.ts";
import { type Changer, ENOSPC, type OverlayState } from "./overlay-state.ts";
import type { IoCompletion } from "./storage.ts";

/**
 * A write into the overlay. Clusters that it covers only in part, and that the overlay does not hold, are completed
 * from the base: what lies before and after the data in its first and last cluster is read, and written with it.
 * Used again and again.
 */
export class OverlayWrite implements IoCompletion, Changer, Disposable {
  firstCluster = 0;
  lastCluster = 0;
  readonly #state: OverlayState;
  readonly #recycle: (write: OverlayWrite) => void;
  /** What comes from the base: a cluster for the first and one for the last. Made when first needed. */
  #fromBase: Mapping | null = null;
  #part: IoVector | null = null;
  #whole: IoVector | null = null;
  #vector: IoVector | null = null;
  #completion: IoCompletion | null = null;
  #hasClaim = false;
  /** Clusters that the overlay's file gets by it. */
  #newClusters = 0;
  #offsetBytes = 0;
  #headBytes = 0;
  #tailBytes = 0;
  #step: "readHead" | "readTail" | "write" | "done" = "done";

  constructor(state: OverlayState, recycle: (write: OverlayWrite) => void) {
    this.#state = state;
    this.#recycle = recycle;
  }

  start(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#offsetBytes = offsetBytes;
    this.#vector = vector;
    this.#completion = completion;
    this.firstCluster = clusterOf(offsetBytes);
    this.lastCluster = clusterOf(offsetBytes + vector.lengthBytes - 1);
    this.begin();
  }

  begin(): void {
    const vector = this.#vector;
    if (!vector || this.#state.mustWait(this)) return;
    const { held, stored, budget } = this.#state;
    const newClusters = stored.countMissing(this.firstCluster, this.lastCluster);
    if (!budget.take(newClusters)) {
      this.#finish(ENOSPC);
      return;
    }
    this.#newClusters = newClusters;
    const end = this.#offsetBytes + vector.lengthBytes;
    this.#headBytes = held.has(this.firstCluster) ? 0 : this.#offsetBytes - this.firstCluster * CLUSTER_BYTES;
    this.#tailBytes = held.has(this.lastCluster) ? 0 : this.#state.clusterEnd(this.lastCluster) - end;
    this.#hasClaim = newClusters > 0;
    if (this.#hasClaim) this.#state.claim(this);
    this.#step = "readHead";
    this.#proceed();
  }

  completed(errno: number): void {
    if (errno !== 0 || this.#step === "done") this.#finish(errno);
    else this.#proceed();
  }

  [Symbol.dispose](): void {
    this.#fromBase?.[Symbol.dispose]();
    this.#part?.[Symbol.dispose]();
    this.#whole?.[Symbol.dispose]();
  }

  #proceed(): void {
    const vector = this.#vector;
    if (!vector) return;
    if (this.#step === "readHead") {
      this.#step = "readTail";
      if (this.#headBytes > 0) {
        this.#readBase(this.firstCluster * CLUSTER_BYTES, 0, this.#headBytes);
        return;
      }
    }
    if (this.#step === "readTail") {
      this.#step = "write";
      if (this.#tailBytes > 0) {
        this.#readBase(this.#offsetBytes + vector.lengthBytes, CLUSTER_BYTES, this.#tailBytes);
        return;
      }
    }
    this.#step = "done";
    this.#state.overlay.write(this.#offsetBytes - this.#headBytes, this.#withNeighbours(vector), this);
  }

  #readBase(offsetBytes: number, at: number, lengthBytes: number): void {
    this.#fromBase ??= Mapping.anonymous(2 * CLUSTER_BYTES);
    this.#part ??= new IoVector(1);
    this.#part.clear();
    this.#part.append(this.#fromBase.hostAddress + at, lengthBytes);
    this.#state.base.read(offsetBytes, this.#part, this);
  }

  /** Of clusters that are new the caller's vector stays whole: where the write fails half-way, none of it has happened. */
  #withNeighbours(vector: IoVector): IoVector {
    if (!this.#hasClaim) return vector;
    const fromBase = this.#fromBase?.hostAddress ?? 0;
    this.#whole ??= new IoVector();
    this.#whole.clear();
    this.#whole.append(fromBase, this.#headBytes);
    this.#whole.appendPart(vector, 0, vector.lengthBytes);
    this.#whole.append(fromBase + CLUSTER_BYTES, this.#tailBytes);
    return this.#whole;
  }

  #finish(errno: number): void {
    const completion = this.#completion;
    this.#vector = null;
    this.#completion = null;
    this.#state.budget.settle(this.#newClusters);
    this.#newClusters = 0;
    const hadClaim = this.#hasClaim;
    this.#hasClaim = false;
    if (hadClaim) this.#state.release(this, errno === 0 ? "stored" : "asBefore");
    this.#recycle(this);
    completion?.completed(errno);
  }
}
