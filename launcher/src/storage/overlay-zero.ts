import { Mapping } from "../sys/mapping.ts";
import { CLUSTER_BYTES, clusterOf } from "./cluster-map.ts";
import { EOPNOTSUPP } from "./file-io.ts";
import { IoVector } from "./io-vector.ts";
import { type Changer, ENOSPC, type OverlayState } from "./overlay-state.ts";
import { OverlayWrite } from "./overlay-write.ts";
import type { IoCompletion } from "./storage.ts";
import { ZeroWriter } from "./zero-writer.ts";

/**
 * Makes a range read as zeroes ("zero"), or gives back what it can of it ("discard": whole clusters, which read as
 * zeroes then). Whole clusters become holes of the overlay that hide the base; the rest is written. For one range.
 */
export class OverlayZero implements IoCompletion, Changer {
  firstCluster = 0;
  lastCluster = 0;
  readonly #state: OverlayState;
  readonly #completion: IoCompletion;
  readonly #kind: "discard" | "zero";
  readonly #edges: { offsetBytes: number; lengthBytes: number }[] = [];
  #zeroes: Mapping | null = null;
  #vector: IoVector | null = null;
  #hasClaim = false;

  constructor(state: OverlayState, completion: IoCompletion, kind: "discard" | "zero") {
    this.#state = state;
    this.#completion = completion;
    this.#kind = kind;
  }

  start(offsetBytes: number, lengthBytes: number): void {
    const end = offsetBytes + lengthBytes;
    this.firstCluster = Math.ceil(offsetBytes / CLUSTER_BYTES);
    this.lastCluster = (end === this.#state.sizeBytes ? Math.ceil(end / CLUSTER_BYTES) : clusterOf(end)) - 1;
    if (this.#kind === "zero") this.#noteEdges(offsetBytes, end);
    if (this.lastCluster >= this.firstCluster) this.begin();
    else this.#zeroEdges();
  }

  begin(): void {
    if (this.#state.mustWait(this)) return;
    this.#hasClaim = true;
    this.#state.claim(this);
    const offsetBytes = this.firstCluster * CLUSTER_BYTES;
    this.#state.overlay.punchHole(offsetBytes, this.#state.clusterEnd(this.lastCluster) - offsetBytes, this);
  }

  /** Of the hole, then of each edge. */
  completed(errno: number): void {
    if (this.#hasClaim && errno === EOPNOTSUPP && this.#kind === "zero") this.#writeZeroes();
    else if (this.#hasClaim) this.#changed(errno, "hole");
    else if (errno !== 0) this.#finish(errno);
    else this.#zeroEdges();
  }

  #writeZeroes(): void {
    const { stored, budget, overlay } = this.#state;
    const newClusters = stored.countMissing(this.firstCluster, this.lastCluster);
    if (!budget.take(newClusters)) {
      this.#changed(ENOSPC, "stored");
      return;
    }
    const completion: IoCompletion = {
      completed: (errno) => {
        budget.settle(newClusters);
        this.#changed(errno, "stored");
      },
    };
    const offsetBytes = this.firstCluster * CLUSTER_BYTES;
    const lengthBytes = this.#state.clusterEnd(this.lastCluster) - offsetBytes;
    new ZeroWriter(overlay, completion).write(offsetBytes, lengthBytes);
  }

  #changed(errno: number, to: "hole" | "stored"): void {
    this.#hasClaim = false;
    this.#state.release(this, errno === 0 ? to : "asBefore");
    // A discard is a hint: where it cannot be taken, everything stays as it is.
    if (errno !== 0 && this.#kind === "zero") this.#finish(errno);
    else this.#zeroEdges();
  }

  /** The parts of the range before its first and after its last whole cluster. */
  #noteEdges(offsetBytes: number, end: number): void {
    const wholeFrom = this.firstCluster * CLUSTER_BYTES;
    const wholeTo = Math.max(wholeFrom, this.#state.clusterEnd(this.lastCluster));
    const add = (from: number, to: number) => {
      if (to > from) this.#edges.push({ offsetBytes: from, lengthBytes: to - from });
    };
    add(offsetBytes, Math.min(end, wholeFrom));
    add(Math.max(offsetBytes, wholeTo), end);
  }

  #zeroEdges(): void {
    const edge = this.#edges.pop();
    if (!edge) {
      this.#finish(0);
      return;
    }
    this.#zeroes ??= Mapping.anonymous(CLUSTER_BYTES);
    this.#vector ??= new IoVector(1);
    this.#vector.clear();
    this.#vector.append(this.#zeroes.hostAddress, edge.lengthBytes);
    new OverlayWrite(this.#state, (write) => write[Symbol.dispose]()).start(edge.offsetBytes, this.#vector, this);
  }

  #finish(errno: number): void {
    this.#zeroes?.[Symbol.dispose]();
    this.#vector?.[Symbol.dispose]();
    this.#completion.completed(errno);
  }
}
