import { CLUSTER_BYTES, ClusterMap, clusterOf } from "./cluster-map.ts";
import type { FileIo } from "./file-io.ts";
import type { OverlayBudget } from "./overlay-budget.ts";
import type { PartedRead, PartReader } from "./parted-read.ts";
import type { ReadSource } from "./storage.ts";

export const ENOSPC = 28;

/** An operation that changes clusters. */
export interface Changer {
  readonly firstCluster: number;
  readonly lastCluster: number;
  /** Starts it, once no other one has a claim on its clusters. */
  begin(): void;
}

export interface OverlayFiles {
  readonly base: ReadSource;
  /** As large as the disk, and sparse. */
  readonly overlay: FileIo;
  /** Clusters that were put into the overlay already. */
  readonly held: ClusterMap;
  /** Of the overlay's file. */
  readonly budget: OverlayBudget;
  readonly sizeBytes: number;
}

/**
 * What the operations of one overlay share: the files, the maps, and who is bringing which clusters into the overlay.
 * A cluster is copied up by one operation at a time, which has a claim on it; its bit is set when all of it is in the
 * overlay, so that readers see either all old or all new.
 */
export class OverlayState implements PartReader {
  readonly base: ReadSource;
  readonly overlay: FileIo;
  /** Clusters that are read from the overlay. */
  readonly held: ClusterMap;
  /** Of these, the ones that take room there: the others are holes. */
  readonly stored = new ClusterMap();
  readonly budget: OverlayBudget;
  readonly sizeBytes: number;
  readonly #claims = new Set<Changer>();
  #waiting: Changer[] = [];

  constructor({ base, overlay, held, budget, sizeBytes }: OverlayFiles) {
    this.base = base;
    this.overlay = overlay;
    this.held = held;
    this.stored.addAll(held);
    this.budget = budget;
    this.sizeBytes = sizeBytes;
  }

  /** Where the bytes from `offsetBytes` on, up to `end`, stop coming from one file. */
  endOfRun(offsetBytes: number, end: number): number {
    const run = this.held.endOfRun(clusterOf(offsetBytes), clusterOf(Math.max(offsetBytes, end - 1)));
    return Math.min(end, run * CLUSTER_BYTES);
  }

  sourceAt(offsetBytes: number): ReadSource {
    return this.held.has(clusterOf(offsetBytes)) ? this.overlay : this.base;
  }

  readPart(read: PartedRead): void {
    const { offsetBytes } = read;
    const lengthBytes = this.endOfRun(offsetBytes, read.endBytes) - offsetBytes;
    this.sourceAt(offsetBytes).read(offsetBytes, read.take(lengthBytes), read);
  }

  /** Where the cluster ends, which at the end of the disk may be short. */
  clusterEnd(cluster: number): number {
    return Math.min(this.sizeBytes, (cluster + 1) * CLUSTER_BYTES);
  }

  /** True when another one has a claim on clusters of `changer`, whose `begin` is called again then. */
  mustWait(changer: Changer): boolean {
    for (const claim of this.#claims)
      if (claim.firstCluster <= changer.lastCluster && changer.firstCluster <= claim.lastCluster) {
        this.#waiting.push(changer);
        return true;
      }
    return false;
  }

  claim(changer: Changer): void {
    this.#claims.add(changer);
  }

  /** Ends a claim: its clusters are data of the overlay now, a hole of it, or as they were. */
  release(changer: Changer, now: "stored" | "hole" | "asBefore"): void {
    const { firstCluster, lastCluster } = changer;
    if (now !== "asBefore") this.held.add(firstCluster, lastCluster);
    if (now === "stored") this.stored.add(firstCluster, lastCluster);
    if (now === "hole") this.stored.remove(firstCluster, lastCluster);
    this.#claims.delete(changer);
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) waiter.begin();
  }
}
