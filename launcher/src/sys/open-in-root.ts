import { lastErrno, SysError } from "./errors.ts";
import { OwnedFd } from "./fd.ts";
import { cString, type OpenOptions, openFile, openFlags } from "./file-io.ts";
import { libc } from "./libc.ts";

const OPENAT2 = 437;
const OPEN_HOW_BYTES = 24;
const O_PATH = 0o10000000;
const EAGAIN = 11;
/** How often a path that changed while it was walked is walked again. */
const ATTEMPTS = 100;

const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_IN_ROOT = 0x10;
const RESOLVE_CACHED = 0x20;

export interface OpenInRootOptions extends OpenOptions {
  /** Fails with ELOOP where the path holds a symbolic link. */
  readonly noSymlinks?: boolean;
  /** Only a handle on the path: for fstat, and to open it again by /proc/self/fd; devices are not touched (O_PATH). */
  readonly pathOnly?: boolean;
  /** Fails with EAGAIN rather than wait for a file system, which may be a hostile process (Linux 5.12). */
  readonly cachedOnly?: boolean;
}

/**
 * Opens `path` as if the directory `root` (a path, or a descriptor of it) were "/": neither "..", nor absolute symbolic
 * links, nor /proc's magic links lead out of it (openat2(2), RESOLVE_IN_ROOT). Throws SysError.
 */
export function openInRoot(root: string | number, path: string, options: OpenInRootOptions = {}): OwnedFd {
  using opened = typeof root === "string" ? openFile(root) : undefined;
  const rootFd = opened?.fd ?? (root as number);
  const how = new DataView(new ArrayBuffer(OPEN_HOW_BYTES));
  const flags = options.pathOnly ? O_PATH | 0o2000000 | (options.noFollow ? 0o400000 : 0) : openFlags(options);
  let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  if (options.noSymlinks) resolve |= RESOLVE_NO_SYMLINKS;
  if (options.cachedOnly) resolve |= RESOLVE_CACHED;
  how.setUint32(0, flags, true);
  how.setUint32(8, options.create ? 0o600 : 0, true);
  how.setUint32(16, resolve, true);
  const text = cString(path);
  for (let attempt = 1; ; attempt++) {
    const result = libc().syscall4(OPENAT2, rootFd, text, how, OPEN_HOW_BYTES);
    if (result >= 0) return new OwnedFd(result);
    const errno = lastErrno();
    // A rename while ".." was resolved: the kernel cannot tell whether that left the root, and asks to try again.
    if (errno === EAGAIN && attempt < ATTEMPTS) continue;
    throw new SysError("openat2", errno, path);
  }
}
