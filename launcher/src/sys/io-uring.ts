import { check, lastErrno } from "./errors.ts";
import { EventFd } from "./eventfd.ts";
import { type OwnedFd, ownFd } from "./fd.ts";
import { type FdWatch, watchFd } from "./fd-watch.ts";
import { type IoDone, PUNCH_HOLE, ZERO_RANGE } from "./file-io.ts";
import * as layout from "./io-uring-layout.ts";
import { IoUringQueues } from "./io-uring-queues.ts";
import type { IovecBlock } from "./iovec.ts";
import { addressOf } from "./koffi.ts";
import { libc } from "./libc.ts";
import { Mapping } from "./mapping.ts";
import type { Poller } from "./poll-source.ts";

// System calls of x86-64.
const IO_URING_SETUP = 425;
const IO_URING_ENTER = 426;
const IO_URING_REGISTER = 427;

/** Files that a ring can have. */
export const RING_FILES = 8;

/**
 * Completions are made when this thread asks for them, not by interrupting it. Needs Linux 6.1; whatever is older has
 * had too many defects in its io_uring to be worth a second way of doing things.
 */
const SETUP_FLAGS =
  layout.IORING_SETUP_R_DISABLED |
  layout.IORING_SETUP_SUBMIT_ALL |
  layout.IORING_SETUP_TASKRUN_FLAG |
  layout.IORING_SETUP_SINGLE_ISSUER |
  layout.IORING_SETUP_DEFER_TASKRUN;

/** All that the ring will ever do: [kind, what] pairs. */
const RESTRICTIONS: readonly (readonly [kind: number, what: number])[] = [
  [layout.IORING_RESTRICTION_SQE_OP, layout.IORING_OP_READV],
  [layout.IORING_RESTRICTION_SQE_OP, layout.IORING_OP_WRITEV],
  [layout.IORING_RESTRICTION_SQE_OP, layout.IORING_OP_FSYNC],
  [layout.IORING_RESTRICTION_SQE_OP, layout.IORING_OP_FALLOCATE],
  [layout.IORING_RESTRICTION_SQE_FLAGS_REQUIRED, layout.IOSQE_FIXED_FILE],
  [layout.IORING_RESTRICTION_SQE_FLAGS_ALLOWED, layout.IOSQE_ASYNC],
  [layout.IORING_RESTRICTION_REGISTER_OP, layout.IORING_REGISTER_FILES_UPDATE],
  [layout.IORING_RESTRICTION_REGISTER_OP, layout.IORING_UNREGISTER_FILES],
];

interface RingParts {
  readonly fd: OwnedFd;
  /** Signalled when something has ended: with deferred completions, being readable is no event of the ring itself. */
  readonly event: EventFd;
  readonly rings: Mapping;
  readonly sqes: Mapping;
  readonly params: Uint32Array;
}

/**
 * An io_uring for the files of one disk. Results are bytes moved or an errno below zero, on the event loop, perhaps
 * before the call returns. Memory that an operation names stays as it is until then.
 */
export class IoUring implements Disposable {
  readonly #parts: RingParts;
  readonly #queues: IoUringQueues;
  readonly #watch: FdWatch;
  #fileCount = 0;

  /**
   * For up to `entries` operations at a time; `poller` looks for what has ended. Throws SysError where the kernel has none,
   * or forbids it.
   */
  static open(entries: number, poller: Poller | null = null): IoUring {
    const params = new Uint32Array(new ArrayBuffer(layout.PARAMS_WORDS * 4));
    params[layout.Params.flags] = SETUP_FLAGS;
    using resources = new DisposableStack();
    const fd = resources.use(ownFd("io_uring_setup", libc().syscall2(IO_URING_SETUP, entries, addressOf(params))));
    register(fd.fd, layout.IORING_REGISTER_RESTRICTIONS, restrictionWords(), RESTRICTIONS.length);
    const event = resources.use(new EventFd());
    const eventFd = new Int32Array(new ArrayBuffer(4)).fill(event.fd);
    register(fd.fd, layout.IORING_REGISTER_EVENTFD, eventFd, 1);
    register(fd.fd, layout.IORING_REGISTER_FILES, new Int32Array(new ArrayBuffer(RING_FILES * 4)).fill(-1), RING_FILES);
    const param = (index: number) => params[index] ?? 0;
    const { Params } = layout;
    const ringBytes = Math.max(
      param(Params.sqArray) + param(Params.sqEntries) * 4,
      param(Params.cqes) + param(Params.cqEntries) * layout.CQE_BYTES,
    );
    const rings = resources.use(Mapping.shared(fd.fd, ringBytes));
    const sqesBytes = param(Params.sqEntries) * layout.SQE_BYTES;
    const sqes = resources.use(Mapping.shared(fd.fd, sqesBytes, layout.IORING_OFF_SQES));
    register(fd.fd, layout.IORING_REGISTER_ENABLE_RINGS, null, 0);
    // So that a filter which forbids this one call is noticed here.
    check("io_uring_enter", enter(fd.fd, 0));
    const ring = new IoUring({ fd, event, rings, sqes, params }, poller);
    resources.move();
    return ring;
  }

  private constructor(parts: RingParts, poller: Poller | null) {
    this.#parts = parts;
    const { fd, event, rings, sqes, params } = parts;
    const number = fd.fd;
    const submit = (toSubmit: number) => {
      const result = enter(number, toSubmit);
      return result < 0 ? -lastErrno() : result;
    };
    this.#queues = new IoUringQueues({ params, rings: rings.buffer, sqes: sqes.buffer }, submit, poller);
    this.#watch = watchFd(event.fd, { readable: true }, () => {
      event.drain();
      this.#queues.signalled();
    });
  }

  /** Operations that can be under way at the same time. */
  get capacity(): number {
    return this.#queues.capacity;
  }

  /** Registers an open file; its number for the operations, or null when the ring has RING_FILES already. */
  addFile(fd: number): number | null {
    if (this.#fileCount === RING_FILES) return null;
    const fds = new Int32Array(new ArrayBuffer(4)).fill(fd);
    const update = new BigUint64Array(new ArrayBuffer(16));
    update[0] = BigInt(this.#fileCount);
    update[1] = BigInt(addressOf(fds));
    register(this.#parts.fd.fd, layout.IORING_REGISTER_FILES_UPDATE, update, 1);
    return this.#fileCount++;
  }

  /** As preadv(2). */
  readv(file: number, iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
    this.#start(layout.IORING_OP_READV, file, offsetBytes, iovecs.address(), count, 0, done);
  }

  /** As pwritev(2). */
  writev(file: number, iovecs: IovecBlock, count: number, offsetBytes: number, done: IoDone): void {
    this.#start(layout.IORING_OP_WRITEV, file, offsetBytes, iovecs.address(), count, 0, done);
  }

  /** As fdatasync(2). */
  fdatasync(file: number, done: IoDone): void {
    this.#start(layout.IORING_OP_FSYNC, file, 0, 0, 0, layout.IORING_FSYNC_DATASYNC, done);
  }

  /** As `punchHole` of file-io.ts. */
  punchHole(file: number, offsetBytes: number, lengthBytes: number, done: IoDone): void {
    this.#start(layout.IORING_OP_FALLOCATE, file, offsetBytes, lengthBytes, PUNCH_HOLE, 0, done);
  }

  /** As `zeroRange` of file-io.ts. */
  zeroRange(file: number, offsetBytes: number, lengthBytes: number, done: IoDone): void {
    this.#start(layout.IORING_OP_FALLOCATE, file, offsetBytes, lengthBytes, ZERO_RANGE, 0, done);
  }

  #start(
    opcode: number,
    file: number,
    offset: number,
    address: number,
    length: number,
    operationFlags: number,
    done: IoDone,
  ): void {
    this.#queues.start({ opcode, file, offset, address, length, operationFlags }, done);
  }

  /** Lets go of the files at once, locks on them included. Nothing is under way. */
  [Symbol.dispose](): void {
    const { fd, event, rings, sqes } = this.#parts;
    if (!fd.isOpen) return;
    this.#queues.close();
    this.#watch[Symbol.dispose]();
    // The kernel takes a ring apart some time after it is closed.
    register(fd.fd, layout.IORING_UNREGISTER_FILES, null, 0);
    for (const part of [sqes, rings, fd, event]) part[Symbol.dispose]();
  }
}

/** Raw result; errno says why when it is negative. */
function enter(fd: number, toSubmit: number): number {
  return libc().syscall6(IO_URING_ENTER, fd, toSubmit, 0, layout.IORING_ENTER_GETEVENTS, 0, 0);
}

function register(fd: number, operation: number, argument: NodeJS.ArrayBufferView | null, count: number): void {
  const address = argument === null ? 0 : addressOf(argument);
  check("io_uring_register", libc().syscall6(IO_URING_REGISTER, fd, operation, address, count, 0, 0));
}

/** An array of struct io_uring_restriction: 16 bits of kind, 8 of what, the rest zero. */
function restrictionWords(): Uint32Array {
  const words = new Uint32Array(new ArrayBuffer(RESTRICTIONS.length * 16));
  for (const [i, [kind, what]] of RESTRICTIONS.entries()) words[i * 4] = kind | (what << 16);
  return words;
}
