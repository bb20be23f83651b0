import { fstatSync, opendirSync } from "node:fs";
import type { OwnedFd } from "../sys/fd.ts";
import { openFile } from "../sys/file-io.ts";
import { openInRoot } from "../sys/open-in-root.ts";
import { asDiskError, DiskError } from "./disk-error.ts";

/** Where an image by the containerDisk convention has its disk: the one file in this directory. */
const IMAGE_DIRECTORY = "disk";

export interface ImageFileSource {
  readonly imageRoot: string;
  /** Inside `imageRoot`; default: the one file in "disk". */
  readonly path?: string;
}

/**
 * Opens the disk's file of an image, for reading. The image is data that anyone may have made: nothing in it leads out of
 * it, and only a regular file is opened. `name` is the disk's, for DiskError, which is thrown.
 */
export function openImageFile(name: string, source: ImageFileSource): OwnedFd {
  const path = source.path ?? `${IMAGE_DIRECTORY}/${onlyFileOf(name, source.imageRoot)}`;
  using handle = handleInImage(name, source.imageRoot, path);
  if (!fstatSync(handle.fd).isFile())
    throw new DiskError(name, `/${path.replace(/^\/+/, "")} of the image is not a regular file`);
  return asDiskError(name, "the image's disk cannot be opened", "make it readable for everyone in the image", () =>
    openFile(`/proc/self/fd/${handle.fd}`),
  );
}

function onlyFileOf(name: string, imageRoot: string): string {
  using directory = handleInImage(name, imageRoot, IMAGE_DIRECTORY);
  if (!fstatSync(directory.fd).isDirectory()) throw new DiskError(name, "/disk of the image is not a directory");
  const entries = opendirSync(`/proc/self/fd/${directory.fd}`);
  try {
    const first = entries.readSync();
    if (!first)
      throw new DiskError(name, "/disk of the image is empty; put the disk there, raw or qcow2, as its only file");
    if (entries.readSync())
      throw new DiskError(name, "/disk of the image holds more than one file; leave one, or say which in `path`");
    return first.name;
  } finally {
    entries.closeSync();
  }
}

function handleInImage(name: string, imageRoot: string, path: string): OwnedFd {
  const what = `/${path.replace(/^\/+/, "")} of the image at ${imageRoot} cannot be opened`;
  return asDiskError(name, what, "check the image", () => openInRoot(imageRoot, path, { pathOnly: true }));
}
