import { check, lastErrno } from "./errors.ts";
import { libc } from "./libc.ts";
import { Mapping } from "./mapping.ts";
import { setLong } from "./words.ts";

// System calls of x86-64.
const IO_SETUP = 206;
const IO_DESTROY = 207;
const IO_GETEVENTS = 208;
const IO_SUBMIT = 209;

// <linux/aio_abi.h>
const IOCB_CMD_PWRITEV = 8;
/** struct iocb. */
const IOCB_BYTES = 64;
const IOCB_WORDS = IOCB_BYTES / 4;
/** Offsets in it, in 32-bit words; the request's priority, here none, is the high half of the first. */
const Iocb = { data: 0, opcode: 4, file: 5, buffer: 6, length: 8 } as const;
/** struct io_event: 64 bits each of user data, the iocb's address, the result, and a second one. */
const EVENT_BYTES = 32;
const EVENT_WORDS = EVENT_BYTES / 4;
const EVENT_RESULT = 4;
const POINTER_BYTES = 8;
const EINTR = 4;

/**
 * Linux AIO: operations that go to the kernel together, in order. For files on which none has to wait (TAPs, sockets that
 * do not block): the kernel does each of these before the call returns.
 */
export class Aio implements Disposable {
  readonly capacity: number;
  readonly #context: number;
  /** The iocbs, their addresses, and the events of one run. */
  readonly #memory: Mapping;
  readonly #words: Uint32Array;
  readonly #results: Int32Array;
  readonly #pointersAt: number;
  readonly #eventsAt: number;
  #count = 0;

  /** For up to `capacity` operations together. Throws SysError where the kernel has none to give, or forbids it. */
  static open(capacity: number): Aio {
    using cleanup = new DisposableStack();
    const memory = cleanup.use(Mapping.anonymous(pagesFor(capacity * (IOCB_BYTES + EVENT_BYTES + POINTER_BYTES))));
    check("io_setup", libc().syscall6(IO_SETUP, capacity, memory.hostAddress, 0, 0, 0, 0));
    const words = new Uint32Array(memory.buffer);
    const context = (words[0] ?? 0) + (words[1] ?? 0) * 2 ** 32;
    words.fill(0, 0, 2);
    cleanup.defer(() => destroy(context));
    // So that a filter which forbids one of these is noticed here.
    check("io_submit", libc().syscall6(IO_SUBMIT, context, 0, memory.hostAddress, 0, 0, 0));
    check("io_getevents", libc().syscall6(IO_GETEVENTS, context, 0, 0, memory.hostAddress, 0, 0));
    cleanup.move();
    return new Aio(context, capacity, memory);
  }

  private constructor(context: number, capacity: number, memory: Mapping) {
    this.capacity = capacity;
    this.#context = context;
    this.#memory = memory;
    const { buffer, hostAddress } = memory;
    this.#words = new Uint32Array(buffer);
    const eventsOffset = capacity * IOCB_BYTES;
    const pointersOffset = eventsOffset + capacity * EVENT_BYTES;
    this.#results = new Int32Array(buffer, eventsOffset, capacity * EVENT_WORDS);
    this.#eventsAt = hostAddress + eventsOffset;
    this.#pointersAt = hostAddress + pointersOffset;
    const pointers = new BigUint64Array(buffer, pointersOffset, capacity);
    for (let i = 0; i < capacity; i++) pointers[i] = BigInt(hostAddress + i * IOCB_BYTES);
  }

  /** One more operation of the next `run`, as writev(2). RangeError beyond `capacity`. */
  addWritev(fd: number, iovecsAt: number, count: number): void {
    if (this.#count === this.capacity) throw new RangeError(`more than ${this.capacity} operations together`);
    const words = this.#words;
    const at = this.#count * IOCB_WORDS;
    words[at + Iocb.data] = this.#count++;
    words[at + Iocb.opcode] = IOCB_CMD_PWRITEV;
    words[at + Iocb.file] = fd;
    setLong(words, at + Iocb.buffer, iovecsAt);
    words[at + Iocb.length] = count;
  }

  /** Does what was added; `results` gets the bytes that each moved, or an errno below zero. */
  run(results: Int32Array): void {
    const count = this.#count;
    this.#count = 0;
    for (let first = 0; first < count; ) {
      const submitted = this.#submit(first, count - first);
      if (submitted > 0) {
        this.#takeEvents(submitted, results);
        first += submitted;
      } else results[first++] = submitted;
    }
  }

  /** How many the kernel has taken; where not even the first, its errno below zero. */
  #submit(first: number, count: number): number {
    const pointers = this.#pointersAt + first * POINTER_BYTES;
    const result = libc().syscall6(IO_SUBMIT, this.#context, count, pointers, 0, 0, 0);
    return result < 0 ? -lastErrno() : result;
  }

  #takeEvents(count: number, results: Int32Array): void {
    for (let left = count; left > 0; ) {
      const taken = libc().syscall6(IO_GETEVENTS, this.#context, left, left, this.#eventsAt, 0, 0);
      if (taken < 0 && lastErrno() !== EINTR) check("io_getevents", taken);
      for (let i = 0; i < taken; i++) {
        const at = i * EVENT_WORDS;
        results[this.#results[at] ?? 0] = this.#results[at + EVENT_RESULT] ?? 0;
      }
      left -= Math.max(0, taken);
    }
  }

  [Symbol.dispose](): void {
    if (this.#memory.buffer.detached) return;
    this.#memory[Symbol.dispose]();
    destroy(this.#context);
  }
}

/** The kernel lets an RCU grace period go by, tens of milliseconds: not on the event loop. */
function destroy(context: number): void {
  libc().syscall6.async(IO_DESTROY, context, 0, 0, 0, 0, 0, () => {});
}

function pagesFor(bytes: number): number {
  return Math.ceil(bytes / 4096) * 4096;
}
