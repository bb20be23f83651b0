import { type LibraryHandle, loadKoffi } from "./koffi.ts";

/** What a C pointer argument takes: an address, the memory of a view, or NULL. Views are borrowed for the call. */
export type Pointer = number | NodeJS.ArrayBufferView | null;

/** A C function. `async` runs it on libuv's pool; `done` then sees the result, and the errno of that call. */
export interface NativeFunction<Arguments extends readonly unknown[]> {
  (...args: Arguments): number;
  async(...args: [...Arguments, done: (error: Error | null, result: number) => void]): void;
}

type Syscall2 = NativeFunction<[number: number, a: number, b: number]>;

/** The C library's functions in use, each with its errors in errno. 64-bit results are below 2^53 or negative. */
export interface Libc {
  close: NativeFunction<[fd: number]>;
  read: NativeFunction<[fd: number, buffer: Pointer, lengthBytes: number]>;
  write: NativeFunction<[fd: number, buffer: Pointer, lengthBytes: number]>;
  pread: NativeFunction<[fd: number, buffer: Pointer, lengthBytes: number, offsetBytes: number]>;
  pwrite: NativeFunction<[fd: number, buffer: Pointer, lengthBytes: number, offsetBytes: number]>;
  readv: NativeFunction<[fd: number, iovecs: Pointer, count: number]>;
  writev: NativeFunction<[fd: number, iovecs: Pointer, count: number]>;
  preadv: NativeFunction<[fd: number, iovecs: Pointer, count: number, offsetBytes: number]>;
  pwritev: NativeFunction<[fd: number, iovecs: Pointer, count: number, offsetBytes: number]>;
  preadv2: NativeFunction<[fd: number, iovecs: Pointer, count: number, offsetBytes: number, flags: number]>;
  pwritev2: NativeFunction<[fd: number, iovecs: Pointer, count: number, offsetBytes: number, flags: number]>;
  fcntl: NativeFunction<[fd: number, command: number, argument: Pointer]>;
  fdatasync: NativeFunction<[fd: number]>;
  ftruncate: NativeFunction<[fd: number, sizeBytes: number]>;
  fallocate: NativeFunction<[fd: number, mode: number, offsetBytes: number, lengthBytes: number]>;
  lseek: NativeFunction<[fd: number, offsetBytes: number, whence: number]>;
  eventfd: NativeFunction<[initial: number, flags: number]>;
  memfd_create: NativeFunction<[name: string, flags: number]>;
  mmap: NativeFunction<
    [hint: number, sizeBytes: number, protection: number, flags: number, fd: number, offsetBytes: number]
  >;
  munmap: NativeFunction<[address: number, sizeBytes: number]>;
  /** Gives free memory of the C heap back to the kernel; 1 when there was some. */
  malloc_trim: NativeFunction<[keepBytes: number]>;
  madvise: NativeFunction<[address: number, sizeBytes: number, advice: number]>;
  memcpy: NativeFunction<[target: number, source: Pointer, lengthBytes: number]>;
  memset: NativeFunction<[target: number, byte: number, lengthBytes: number]>;
  ioctl: NativeFunction<[fd: number, request: number, argument: Pointer]>;
  socket: NativeFunction<[domain: number, type: number, protocol: number]>;
  socketpair: NativeFunction<[domain: number, type: number, protocol: number, fds: Pointer]>;
  connect: NativeFunction<[fd: number, address: Pointer, lengthBytes: number]>;
  sendmsg: NativeFunction<[fd: number, message: Pointer, flags: number]>;
  recvmsg: NativeFunction<[fd: number, message: Pointer, flags: number]>;
  getsockopt: NativeFunction<[fd: number, level: number, name: number, value: Pointer, lengthBytes: Pointer]>;
  setsockopt: NativeFunction<[fd: number, level: number, name: number, value: Pointer, lengthBytes: number]>;
  setns: NativeFunction<[fd: number, kind: number]>;
  setxattr: NativeFunction<[path: string, name: string, value: Pointer, sizeBytes: number, flags: number]>;
  /** `syscall` with two arguments: those that the C library has no function for. */
  syscall2: Syscall2;
  syscall4: NativeFunction<[number: number, a: number, b: Pointer | string, c: Pointer, d: number]>;
  /** Addresses are numbers here. */
  syscall6: NativeFunction<[number: number, a: number, b: number, c: number, d: number, e: number, f: number]>;
}

type Prototype = readonly [symbol: string, result: string, args: readonly string[]];

const of = (symbol: string, result: string, ...args: string[]): Prototype => [symbol, result, args];

const prototypes: { readonly [Name in keyof Libc]: Prototype } = {
  close: of("close", "int", "int"),
  read: of("read", "int64_t", "int", "void *", "size_t"),
  write: of("write", "int64_t", "int", "const void *", "size_t"),
  pread: of("pread", "int64_t", "int", "void *", "size_t", "int64_t"),
  pwrite: of("pwrite", "int64_t", "int", "const void *", "size_t", "int64_t"),
  readv: of("readv", "int64_t", "int", "const void *", "int"),
  writev: of("writev", "int64_t", "int", "const void *", "int"),
  preadv: of("preadv", "int64_t", "int", "const void *", "int", "int64_t"),
  pwritev: of("pwritev", "int64_t", "int", "const void *", "int", "int64_t"),
  preadv2: of("preadv2", "int64_t", "int", "const void *", "int", "int64_t", "int"),
  pwritev2: of("pwritev2", "int64_t", "int", "const void *", "int", "int64_t", "int"),
  fcntl: of("fcntl", "int", "int", "int", "void *"),
  fdatasync: of("fdatasync", "int", "int"),
  ftruncate: of("ftruncate", "int", "int", "int64_t"),
  fallocate: of("fallocate", "int", "int", "int", "int64_t", "int64_t"),
  lseek: of("lseek", "int64_t", "int", "int64_t", "int"),
  eventfd: of("eventfd", "int", "unsigned int", "int"),
  memfd_create: of("memfd_create", "int", "const char *", "unsigned int"),
  mmap: of("mmap", "int64_t", "int64_t", "size_t", "int", "int", "int", "int64_t"),
  munmap: of("munmap", "int", "int64_t", "size_t"),
  malloc_trim: of("malloc_trim", "int", "size_t"),
  madvise: of("madvise", "int", "int64_t", "size_t", "int"),
  memcpy: of("memcpy", "int64_t", "int64_t", "const void *", "size_t"),
  memset: of("memset", "int64_t", "int64_t", "int", "size_t"),
  ioctl: of("ioctl", "int", "int", "unsigned long", "void *"),
  socket: of("socket", "int", "int", "int", "int"),
  socketpair: of("socketpair", "int", "int", "int", "int", "void *"),
  connect: of("connect", "int", "int", "const void *", "unsigned int"),
  sendmsg: of("sendmsg", "int64_t", "int", "const void *", "int"),
  recvmsg: of("recvmsg", "int64_t", "int", "void *", "int"),
  getsockopt: of("getsockopt", "int", "int", "int", "int", "void *", "void *"),
  setsockopt: of("setsockopt", "int", "int", "int", "int", "const void *", "unsigned int"),
  setns: of("setns", "int", "int", "int"),
  setxattr: of("setxattr", "int", "const char *", "const char *", "const void *", "size_t", "int"),
  syscall2: of("syscall", "int64_t", "int64_t", "int64_t", "int64_t"),
  syscall4: of("syscall", "int64_t", "int64_t", "int64_t", "const char *", "void *", "int64_t"),
  syscall6: of("syscall", "int64_t", "int64_t", "int64_t", "int64_t", "int64_t", "int64_t", "int64_t", "int64_t"),
};

let table: Libc | undefined;

/** The C library. Each function is bound when it is first called, which keeps them out of the start-up time. */
export function libc(): Libc {
  table ??= bindLazily(loadKoffi().load("libc.so.6"));
  return table;
}

function bindLazily(library: LibraryHandle): Libc {
  const target = {} as Libc;
  for (const [name, [symbol, result, args]] of Object.entries(prototypes)) {
    Object.defineProperty(target, name, {
      configurable: true,
      get: () => {
        const value = library.func(symbol, result, [...args]);
        Object.defineProperty(target, name, { value });
        return value;
      },
    });
  }
  return target;
}
