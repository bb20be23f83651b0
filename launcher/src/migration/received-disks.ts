import type { MovableDisk } from "../machine/movable-machine.ts";
import type { DiskContents } from "../storage/disk-contents.ts";
import { isFilledByMigration } from "../storage/open-disks.ts";
import { duplicateFd, type OwnedFd } from "../sys/fd.ts";
import type { ImageOfDisk } from "./image-digests.ts";
import type { WantedDisk } from "./protocol.ts";
import type { ReceivedDisk } from "./worker/disk-files.ts";

interface Received {
  readonly name: string;
  readonly contents: DiskContents;
  readonly fd: OwnedFd;
  readonly headFd: OwnedFd | null;
}

/** The disks of a target that are filled from the source's. */
export class ReceivedDisks implements Disposable {
  readonly #disks: readonly Received[];

  constructor(disks: readonly MovableDisk[]) {
    this.#disks = disks.flatMap(({ name, config, tracked }) => {
      const contents = isFilledByMigration(config) ? tracked.contents() : null;
      // The threads' own: they may write for a moment after the disk was closed.
      if (!contents) return [];
      const headFd = contents.headFd === null ? null : duplicateFd(contents.headFd);
      return [{ name, contents, fd: duplicateFd(contents.fd), headFd }];
    });
  }

  get names(): readonly string[] {
    return this.#disks.map(({ name }) => name);
  }

  /** For the source. */
  get wanted(): readonly WantedDisk[] {
    return this.#disks.map(({ name, contents: { sizeBytes, isBlank, overlay } }) => {
      return { name, kind: overlay ? "overlay" : "whole", sizeBytes, isBlank };
    });
  }

  /** For the threads that fill them. */
  get tasks(): readonly ReceivedDisk[] {
    return this.#disks.map(({ name, fd, headFd, contents: { sizeBytes, isBlockDevice, outlivesProcess } }) => {
      return { name, fd: fd.fd, headFd: headFd?.fd ?? null, sizeBytes, isBlockDevice, outlivesProcess };
    });
  }

  get images(): readonly ImageOfDisk[] {
    return this.#disks.flatMap(({ name, contents: { overlay } }) =>
      overlay ? [{ disk: name, fd: overlay.imageFd }] : [],
    );
  }

  /** No thread writes to them any more. */
  [Symbol.dispose](): void {
    for (const { fd, headFd } of this.#disks) {
      fd[Symbol.dispose]();
      headFd?.[Symbol.dispose]();
    }
  }
}
