import type { Worker } from "node:worker_threads";
import { duplicateFd } from "../sys/fd.ts";
import type { PayloadOf } from "./protocol.ts";
import { endWorker, startWorker } from "./worker/worker-thread.ts";

export type ImageDigest = PayloadOf<"images">["images"][number];

export interface ImageOfDisk {
  readonly disk: string;
  readonly fd: number;
}

/** Finds out what the images are that disks lie over, one after the other, in a thread. */
export class ImageDigests implements Disposable {
  /** Rejects where an image cannot be read; never settles once this is disposed of. */
  readonly done: Promise<readonly ImageDigest[]>;
  #worker: Worker | null = null;
  #isDisposed = false;
  #isAtWork = true;

  constructor(images: readonly ImageOfDisk[]) {
    this.done = this.#all(images);
    const ended = () => {
      this.#isAtWork = false;
    };
    this.done.then(ended, ended);
  }

  get isAtWork(): boolean {
    return this.#isAtWork;
  }

  async #all(images: readonly ImageOfDisk[]): Promise<readonly ImageDigest[]> {
    const found: ImageDigest[] = [];
    for (const { disk, fd } of images) found.push({ disk, digest: await this.#digest(disk, fd) });
    return found;
  }

  async #digest(disk: string, fd: number): Promise<Uint8Array> {
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    if (this.#isDisposed) return promise;
    // The disk may be closed meanwhile.
    using own = duplicateFd(fd);
    const worker = startWorker({ kind: "digest", fd: own.fd });
    this.#worker = worker;
    worker.once("message", resolve);
    worker.once("error", (cause) => reject(new Error(`disk ${disk}: its image cannot be read`, { cause })));
    const ended = new Promise((end) => worker.once("exit", end));
    try {
      return await Promise.race([promise, ended.then(() => promise)]);
    } finally {
      await ended;
    }
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    if (this.#worker) void endWorker(this.#worker);
  }
}

/** The disk whose image is another one in `theirs`, or is only in one of both; null where all are the same. */
export function firstOtherImage(ours: readonly ImageDigest[], theirs: readonly ImageDigest[]): string | null {
  const left = new Map(theirs.map(({ disk, digest }) => [disk, digest]));
  for (const { disk, digest } of ours) {
    const other = left.get(disk);
    if (!other || !Buffer.from(digest).equals(other)) return disk;
    left.delete(disk);
  }
  const [extra] = left.keys();
  return extra ?? null;
}
