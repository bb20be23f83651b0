import type { MovableDisk } from "../machine/movable-machine.ts";
import { BlockBitmap } from "../storage/block-bitmap.ts";
import type { DiskContents } from "../storage/disk-contents.ts";
import { COPIED_BLOCK_BYTES } from "../storage/incoming-raw-disk.ts";
import { isFilledByMigration } from "../storage/open-disks.ts";
import { duplicateFd, type OwnedFd } from "../sys/fd.ts";
import type { ImageOfDisk } from "./image-digests.ts";
import { MigrationError } from "./migration-error.ts";
import type { WantedDisk } from "./protocol.ts";
import type { SentDisk } from "./worker/send-disk.ts";

interface Sent {
  readonly disk: MovableDisk;
  readonly contents: DiskContents;
  readonly isBlank: boolean;
  /** The threads' own: the guest may give the disk up while they read it. */
  readonly fd: OwnedFd;
}

/** The disks that a source copies to its target, and what changes of them meanwhile. */
export class SentDisks implements Disposable {
  readonly #sent: readonly Sent[];

  /** `wanted` is what the target asks for, `disks` all that the machine has. Throws MigrationError, which names the disk. */
  constructor(wanted: readonly WantedDisk[], disks: readonly MovableDisk[]) {
    const names = new Set(wanted.map(({ name }) => name));
    for (const { name, config } of disks)
      if (isFilledByMigration(config) && ["image", "empty"].includes(config.source.kind) && !names.has(name))
        throw new MigrationError(
          `disk ${name} is on storage of this process's own, and the target takes no copy of it; give both the same machine.json`,
        );
    using cleanup = new DisposableStack();
    this.#sent = wanted.map((each) => {
      const disk = disks.find(({ name }) => name === each.name);
      const contents = checked(each, disk);
      if (!disk) throw new TypeError("checked before");
      return { disk, contents, isBlank: each.isBlank, fd: cleanup.use(duplicateFd(contents.fd)) };
    });
    cleanup.move();
  }

  /** For the threads that send them. */
  get tasks(): readonly SentDisk[] {
    return this.#sent.map(({ disk: { name }, contents: { sizeBytes, isBlockDevice }, isBlank, fd }) => {
      return { name, fd: fd.fd, sizeBytes, isBlockDevice, isBlank };
    });
  }

  get images(): readonly ImageOfDisk[] {
    return this.#sent.flatMap(({ disk, contents: { overlay } }) =>
      overlay ? [{ disk: disk.name, fd: overlay.imageFd }] : [],
    );
  }

  /** From now on changes are noted; answers what the first pass has to send of each. */
  start(): readonly BlockBitmap[] {
    return this.#sent.map(({ disk, contents: { sizeBytes, overlay } }) => {
      disk.tracked.startTracking();
      return overlay ? BlockBitmap.of(overlay.held, sizeBytes) : BlockBitmap.full(sizeBytes);
    });
  }

  /** Nothing to send yet. */
  emptyBitmaps(): readonly BlockBitmap[] {
    return this.#sent.map(({ contents: { sizeBytes } }) => new BlockBitmap(sizeBytes));
  }

  /** Adds what has changed since to `bitmaps`, one a disk. Throws MigrationError where a disk has another size by now. */
  collect(bitmaps: readonly BlockBitmap[]): void {
    this.#sent.forEach(({ disk: { name, tracked }, contents: { sizeBytes } }, i) => {
      if (tracked.sizeBytes !== sizeBytes)
        throw new MigrationError(
          `disk ${name} has grown to ${tracked.sizeBytes} bytes while it was copied; start again`,
        );
      const bitmap = bitmaps[i];
      if (bitmap) tracked.collectChanges(bitmap);
    });
  }

  /** Nobody notes changes any more. */
  stop(): void {
    for (const { disk } of this.#sent) disk.tracked.stopTracking();
  }

  /** No thread reads them any more. */
  [Symbol.dispose](): void {
    for (const { fd } of this.#sent) fd[Symbol.dispose]();
  }
}

function checked({ name, kind, sizeBytes }: WantedDisk, disk: MovableDisk | undefined): DiskContents {
  if (!disk) throw new MigrationError(`disk ${name}: the target wants it, and this machine does not have it`);
  const contents = disk.tracked.contents();
  if (!contents) throw new MigrationError(`disk ${name} is read-only, and cannot be copied`);
  const ownKind = contents.overlay ? "overlay" : "whole";
  if (kind !== ownKind) {
    const says = (what: typeof kind) => (what === "overlay" ? "an image's" : "no image's");
    throw new MigrationError(`disk ${name} is ${says(ownKind)} here, and ${says(kind)} in the target`);
  }
  const { logicalBlockBytes } = disk.tracked;
  if (logicalBlockBytes !== COPIED_BLOCK_BYTES)
    throw new MigrationError(
      `disk ${name} has blocks of ${logicalBlockBytes} bytes, and only those with ${COPIED_BLOCK_BYTES} can be copied`,
    );
  if (sizeBytes !== contents.sizeBytes)
    throw new MigrationError(
      `disk ${name} has ${contents.sizeBytes} bytes, and ${sizeBytes} in the target; give the target one as large`,
    );
  return contents;
}
