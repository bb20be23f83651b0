import { discardAsync, zeroOutAsync } from "../sys/block-device.ts";
import {
  fdatasyncAsync,
  type IoDone,
  preadvAsync,
  preadvNoWait,
  punchHoleAsync,
  pwritevAsync,
  pwritevNoWait,
  zeroRangeAsync,
} from "../sys/file-io.ts";
import type { IoLane, PoolOperation } from "./io-pool.ts";
import type { IoVector } from "./io-vector.ts";
import type { IoCompletion } from "./storage.ts";

export const EIO = 5;
const EINTR = 4;
export const EOPNOTSUPP = 95;

type Direction = "read" | "write";

/** Copying more than this from the page cache would hold up the event loop for long. */
const NO_WAIT_LIMIT_BYTES = 256 * 1024;

/**
 * Vectored I/O on one open file that does not block the event loop. What the page cache can do without waiting is done
 * at once (RWF_NOWAIT, some 2 µs), the rest on libuv's pool (some 50 µs more).
 */
export class FileIo {
  readonly fd: number;
  readonly #lane: IoLane;
  readonly #noWait: Record<Direction, boolean>;
  #spare: Transfer | null = null;

  /** `noWait` false for files without page cache, where RWF_NOWAIT waits for the device after all. */
  constructor(fd: number, lane: IoLane, noWait: boolean) {
    this.fd = fd;
    this.#lane = lane;
    this.#noWait = { read: noWait, write: noWait };
  }

  /** Fills `vector`; the end of the file before that is EIO. */
  read(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#move("read", offsetBytes, vector, completion);
  }

  write(offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.#move("write", offsetBytes, vector, completion);
  }

  /** fdatasync. */
  sync(completion: IoCompletion): void {
    this.#run((done) => fdatasyncAsync(this.fd, done), completion);
  }

  /** Of a regular file: storage is given back, zeroes remain. */
  punchHole(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.#run((done) => punchHoleAsync(this.fd, offsetBytes, lengthBytes, done), completion);
  }

  /** Of a regular file: zeroes, and the storage is kept. */
  zeroRange(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.#run((done) => zeroRangeAsync(this.fd, offsetBytes, lengthBytes, done), completion);
  }

  /** Of a block device. */
  discardDevice(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.#run((done) => discardAsync(this.fd, offsetBytes, lengthBytes, done), completion);
  }

  /** Of a block device. */
  zeroDevice(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.#run((done) => zeroOutAsync(this.fd, offsetBytes, lengthBytes, done), completion);
  }

  #move(direction: Direction, offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    const moved = this.#moveNoWait(direction, offsetBytes, vector);
    if (moved === vector.lengthBytes) {
      completion.completed(0);
      return;
    }
    vector.dropFront(moved);
    const transfer = this.#spare ?? new Transfer(this.fd, this.#lane, (ended) => this.#recycle(ended));
    this.#spare = transfer.next;
    transfer.begin(direction, offsetBytes + moved, vector, completion);
  }

  /** How many bytes the page cache took or gave at once. */
  #moveNoWait(direction: Direction, offsetBytes: number, vector: IoVector): number {
    if (!this.#noWait[direction] || vector.lengthBytes > NO_WAIT_LIMIT_BYTES) return 0;
    const call = direction === "read" ? preadvNoWait : pwritevNoWait;
    const result = call(this.fd, vector.block, vector.count, offsetBytes);
    if (result === -EOPNOTSUPP) this.#noWait[direction] = false;
    return Math.max(0, result);
  }

  #recycle(transfer: Transfer): void {
    transfer.next = this.#spare;
    this.#spare = transfer;
  }

  #run(start: (done: IoDone) => void, completion: IoCompletion): void {
    const operation: PoolOperation = {
      start,
      ended: (result) => {
        if (result === -EINTR) this.#lane.run(operation);
        else completion.completed(result < 0 ? -result : 0);
      },
    };
    this.#lane.run(operation);
  }
}

/** One read or write on the pool, in as many calls as it takes. Used again and again. */
class Transfer implements PoolOperation {
  next: Transfer | null = null;
  readonly #fd: number;
  readonly #lane: IoLane;
  readonly #recycle: (transfer: Transfer) => void;
  #direction: Direction = "read";
  #offsetBytes = 0;
  #vector: IoVector | null = null;
  #completion: IoCompletion | null = null;

  constructor(fd: number, lane: IoLane, recycle: (transfer: Transfer) => void) {
    this.#fd = fd;
    this.#lane = lane;
    this.#recycle = recycle;
  }

  begin(direction: Direction, offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.next = null;
    this.#direction = direction;
    this.#offsetBytes = offsetBytes;
    this.#vector = vector;
    this.#completion = completion;
    this.#lane.run(this);
  }

  start(done: IoDone): void {
    const vector = this.#vector;
    if (!vector) return;
    const call = this.#direction === "read" ? preadvAsync : pwritevAsync;
    call(this.#fd, vector.block, vector.count, this.#offsetBytes, done);
  }

  ended(result: number): void {
    const vector = this.#vector;
    if (!vector) return;
    if (result > 0 && result < vector.lengthBytes) {
      vector.dropFront(result);
      this.#offsetBytes += result;
      this.#lane.run(this);
    } else if (result === -EINTR) this.#lane.run(this);
    else if (result === 0) this.#finish(EIO);
    else this.#finish(result < 0 ? -result : 0);
  }

  #finish(errno: number): void {
    const completion = this.#completion;
    this.#vector = null;
    this.#completion = null;
    this.#recycle(this);
    completion?.completed(errno);
  }
}
