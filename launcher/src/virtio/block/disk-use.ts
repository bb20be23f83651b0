import { Histogram, type HistogramReport } from "../../measure/histogram.ts";
import {
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "./protocol.ts";

/** Of one kind of request. */
export interface OperationUse {
  /** Those that ended, well or not. */
  readonly requests: number;
  /** Read, written, zeroed or discarded. */
  readonly bytes: number;
  /** Sum over all requests, from when the device took one until it ended. */
  readonly seconds: number;
  /** How many took how long, in seconds. */
  readonly latency: HistogramReport;
  /** Those that failed in the storage. */
  readonly errors: number;
}

/** From the page cache to storage that hangs. */
const LATENCY_BOUNDS_SECONDS = [0.0001, 0.001, 0.005, 0.02, 0.1, 1];

export type DiskOperation = "read" | "write" | "flush" | "discard" | "writeZeroes";

/** What a disk has done since the machine was made. */
export class DiskUse {
  readonly #byType: ReadonlyMap<number, Counter>;
  readonly operations: Readonly<Record<DiskOperation, OperationUse>>;

  constructor() {
    const operations = {
      read: new Counter(),
      write: new Counter(),
      flush: new Counter(),
      discard: new Counter(),
      writeZeroes: new Counter(),
    };
    this.operations = operations;
    this.#byType = new Map([
      [VIRTIO_BLK_T_IN, operations.read],
      [VIRTIO_BLK_T_OUT, operations.write],
      [VIRTIO_BLK_T_FLUSH, operations.flush],
      [VIRTIO_BLK_T_DISCARD, operations.discard],
      [VIRTIO_BLK_T_WRITE_ZEROES, operations.writeZeroes],
    ]);
  }

  /** A request of virtio type `type` has ended. Those that never reached the storage have no bytes. */
  count(type: number, bytes: number, tookMs: number, hasFailed: boolean): void {
    const counter = this.#byType.get(type);
    if (!counter) return;
    counter.latency.observe(tookMs / 1000);
    if (hasFailed) counter.errors++;
    else counter.bytes += bytes;
  }
}

class Counter implements OperationUse {
  readonly latency = new Histogram(LATENCY_BOUNDS_SECONDS);
  bytes = 0;
  errors = 0;

  get requests(): number {
    return this.latency.count;
  }

  get seconds(): number {
    return this.latency.sum;
  }
}
