/** What the kernel shares with a process for io_uring: numbers and offsets of <linux/io_uring.h>. */

export const IORING_OP_READV = 1;
export const IORING_OP_WRITEV = 2;
export const IORING_OP_FSYNC = 3;
export const IORING_OP_FALLOCATE = 17;

export const IORING_FSYNC_DATASYNC = 1;

export const IOSQE_FIXED_FILE = 1 << 0;
export const IOSQE_ASYNC = 1 << 4;

export const IORING_ENTER_GETEVENTS = 1 << 0;

export const IORING_SETUP_R_DISABLED = 1 << 6;
export const IORING_SETUP_SUBMIT_ALL = 1 << 7;
export const IORING_SETUP_TASKRUN_FLAG = 1 << 9;
export const IORING_SETUP_SINGLE_ISSUER = 1 << 12;
export const IORING_SETUP_DEFER_TASKRUN = 1 << 13;

/** In the flags of the submission queue: io_uring_enter would complete something. */
export const IORING_SQ_TASKRUN = 1 << 2;
/** In the flags of the completion queue, set by the process: the eventfd stays quiet. */
export const IORING_CQ_EVENTFD_DISABLED = 1 << 0;

export const IORING_OFF_SQES = 0x10000000;

export const IORING_REGISTER_FILES = 2;
export const IORING_UNREGISTER_FILES = 3;
export const IORING_REGISTER_EVENTFD = 4;
export const IORING_REGISTER_FILES_UPDATE = 6;
export const IORING_REGISTER_RESTRICTIONS = 11;
export const IORING_REGISTER_ENABLE_RINGS = 12;

export const IORING_RESTRICTION_REGISTER_OP = 0;
export const IORING_RESTRICTION_SQE_OP = 1;
export const IORING_RESTRICTION_SQE_FLAGS_ALLOWED = 2;
export const IORING_RESTRICTION_SQE_FLAGS_REQUIRED = 3;

/** struct io_uring_params: in 32-bit words. */
export const PARAMS_WORDS = 30;
export const Params = {
  sqEntries: 0,
  cqEntries: 1,
  flags: 2,
  sqHead: 10,
  sqTail: 11,
  sqMask: 12,
  sqFlags: 14,
  sqArray: 16,
  cqHead: 20,
  cqTail: 21,
  cqMask: 22,
  cqes: 25,
  cqFlags: 26,
} as const;

/** struct io_uring_sqe. */
export const SQE_BYTES = 64;
/** Offsets in it, in 32-bit words; word 0 is the opcode in its low byte and the flags in the next. */
export const Sqe = {
  opcodeAndFlags: 0,
  file: 1,
  offset: 2,
  address: 4,
  length: 6,
  operationFlags: 7,
  userData: 8,
} as const;

/** struct io_uring_cqe: 64 bits of user data, the result, flags. */
export const CQE_BYTES = 16;
