import { discardAsync, zeroOutAsync } from "../sys/block-device.ts";
import { type IoDone, preadvNoWait, pwritevNoWait } from "../sys/file-io.ts";
import type { FileLane, IoLane } from "./io-pool.ts";
import type { IoVector } from "./io-vector.ts";
import type { Operation, OperationQueue } from "./operation-queue.ts";
import type { IoCompletion } from "./storage.ts";

export const EIO = 5;
const EINTR = 4;
export const EOPNOTSUPP = 95;

type Direction = "read" | "write";
type Queue = Pick<OperationQueue, "run">;

/** Copying more than this from the page cache would hold up the event loop for long. */
const NO_WAIT_LIMIT_BYTES = 256 * 1024;

/**
 * Vectored I/O on one open file that does not block the event loop. What the page cache can do without waiting is done
 * at once (RWF_NOWAIT, some 2 µs), the rest in the disk's ring, or on libuv's pool (some 50 µs more).
 */
export class FileIo {
  readonly fd: number;
  readonly #lane: IoLane;
  readonly #file: FileLane;
  readonly #noWait: Record<Direction, boolean>;
  #spare: Transfer | null = null;

  /** `noWait` false for files without page cache, where RWF_NOWAIT waits for the device after all. */
  constructor(fd: number, lane: IoLane, noWait: boolean) {
    this.fd = fd;
    this.#lane = lane;
    this.#file = lane.file(fd);
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
    this.#run(this.#file.queue, (done) => this.#file.calls.fdatasync(done), completion);
  }

  /** Of a regular file: storage is given back, zeroes remain. */
  punchHole(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    const { queue, calls } = this.#file;
    this.#run(queue, (done) => calls.punchHole(offsetBytes, lengthBytes, done), completion);
  }

  /** Of a regular file: zeroes, and the storage is kept. */
  zeroRange(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    const { queue, calls } = this.#file;
    this.#run(queue, (done) => calls.zeroRange(offsetBytes, lengthBytes, done), completion);
  }

  /** Of a block device. */
  discardDevice(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.#run(this.#lane, (done) => discardAsync(this.fd, offsetBytes, lengthBytes, done), completion);
  }

  /** Of a block device. */
  zeroDevice(offsetBytes: number, lengthBytes: number, completion: IoCompletion): void {
    this.#run(this.#lane, (done) => zeroOutAsync(this.fd, offsetBytes, lengthBytes, done), completion);
  }

  #move(direction: Direction, offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    const moved = this.#moveNoWait(direction, offsetBytes, vector);
    if (moved === vector.lengthBytes) {
      completion.completed(0);
      return;
    }
    vector.dropFront(moved);
    const transfer = this.#spare ?? new Transfer(this.#file, (ended) => this.#recycle(ended));
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

  #run(queue: Queue, start: (done: IoDone) => void, completion: IoCompletion): void {
    const operation: Operation = {
      start,
      ended: (result) => {
        if (result === -EINTR) queue.run(operation);
        else completion.completed(result < 0 ? -result : 0);
      },
    };
    queue.run(operation);
  }
}

/** One read or write that waits, in as many calls as it takes. Used again and again. */
class Transfer implements Operation {
  next: Transfer | null = null;
  readonly #file: FileLane;
  readonly #recycle: (transfer: Transfer) => void;
  #direction: Direction = "read";
  #offsetBytes = 0;
  #vector: IoVector | null = null;
  #completion: IoCompletion | null = null;

  constructor(file: FileLane, recycle: (transfer: Transfer) => void) {
    this.#file = file;
    this.#recycle = recycle;
  }

  begin(direction: Direction, offsetBytes: number, vector: IoVector, completion: IoCompletion): void {
    this.next = null;
    this.#direction = direction;
    this.#offsetBytes = offsetBytes;
    this.#vector = vector;
    this.#completion = completion;
    this.#file.queue.run(this);
  }

  start(done: IoDone): void {
    const vector = this.#vector;
    if (!vector) return;
    const { calls } = this.#file;
    if (this.#direction === "read") calls.readv(vector.block, vector.count, this.#offsetBytes, done);
    else calls.writev(vector.block, vector.count, this.#offsetBytes, done);
  }

  ended(result: number): void {
    const vector = this.#vector;
    if (!vector) return;
    if (result > 0 && result < vector.lengthBytes) {
      vector.dropFront(result);
      this.#offsetBytes += result;
      this.#file.queue.run(this);
    } else if (result === -EINTR) this.#file.queue.run(this);
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
