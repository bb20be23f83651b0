import { existsSync, rmSync, unlinkSync } from "node:fs";
import type { OwnedFd } from "../sys/fd.ts";
import { fdatasync, fdatasyncAsync, openFile } from "../sys/file-io.ts";

/** Beside a file that a migration fills, until it is whole: whoever finds it knows what that file is worth. */
export const UNFINISHED_MARK = "disk.img.unfinished";

/** A file that was made for what a migration brings. It goes with the disk that it is of, unless the disk is claimed before. */
export class IncomingFile implements Disposable {
  readonly #path: string;
  #isKept = false;

  /** What is at `path` is removed. */
  constructor(path: string) {
    this.#path = path;
  }

  /** The guest is about to use it. */
  keep(): void {
    this.#isKept = true;
  }

  /** Removes it unless it is kept. */
  [Symbol.dispose](): void {
    if (!this.#isKept) rmSync(this.#path, { force: true });
  }
}

/** The same in a claim, which outlives all launchers: a mark stands beside it until it is kept. */
export class IncomingClaimFile implements Disposable {
  readonly #directory: OwnedFd;
  readonly #file: string;
  readonly #mark: string;
  #isKept = false;

  /** Puts the mark into `directory`, which is this object's from now on, and removes what an earlier migration left of `file`. */
  constructor(directory: OwnedFd, file: string) {
    this.#directory = directory;
    this.#file = `/proc/self/fd/${directory.fd}/${file}`;
    this.#mark = `/proc/self/fd/${directory.fd}/${UNFINISHED_MARK}`;
    if (existsSync(this.#mark)) rmSync(this.#file, { force: true });
    else openFile(this.#mark, { write: true, create: true, exclusive: true, noFollow: true })[Symbol.dispose]();
    // A file without its mark would be taken for a disk.
    fdatasync(directory.fd);
  }

  /** Durable a moment later: until then a host that fails leaves the mark, and somebody has to look. */
  keep(): void {
    if (this.#isKept) return;
    unlinkSync(this.#mark);
    this.#isKept = true;
    fdatasyncAsync(this.#directory.fd, () => this.#directory[Symbol.dispose]());
  }

  /** Removes file and mark unless they are kept. */
  [Symbol.dispose](): void {
    if (this.#isKept || !this.#directory.isOpen) return;
    rmSync(this.#file, { force: true });
    rmSync(this.#mark, { force: true });
    this.#directory[Symbol.dispose]();
  }
}
