import {
  closeSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { launcherSeccompName, launcherSeccompText } from "./profile.ts";

/** The profile could not be put where the kubelet looks for it. */
export class SeccompInstallError extends Error {
  readonly path: string;
  constructor(path: string, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(
      `the launchers' seccomp profile cannot be written to ${path} (${reason}): check that the kubelet's directory of profiles is mounted and writable, or run without --seccomp-dir`,
      { cause },
    );
    this.name = "SeccompInstallError";
    this.path = path;
  }
}

/**
 * Puts the launchers' profile below `directory`, the kubelet's `seccomp`; answers its path. It is there whole or not at
 * all. Profiles of other versions stay: pods that use them may be started again. Throws SeccompInstallError.
 */
export function installLauncherSeccomp(directory: string): string {
  const path = join(directory, launcherSeccompName());
  const text = launcherSeccompText();
  if (contentsOf(path) === text) return path;
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    write(temporary, text);
    renameSync(temporary, path);
    return path;
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new SeccompInstallError(path, error);
  }
}

function contentsOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Whatever is wrong with it, it is replaced.
    return null;
  }
}

function write(path: string, text: string): void {
  const fd = openSync(path, "w");
  try {
    // Container runtimes may read it as somebody else, whatever our umask.
    fchmodSync(fd, 0o644);
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
