import { fstatSync, opendirSync } from "node:fs";
import { OwnedFd } from "../sys/fd.ts";
import { ftruncate, openFile, preadFully, pwriteFully } from "../sys/file-io.ts";
import { lockFile } from "../sys/file-lock.ts";
import { openInRoot } from "../sys/open-in-root.ts";
import { CLUSTER_BYTES, ClusterMap } from "./cluster-map.ts";
import { asDiskError, DiskError } from "./disk-error.ts";
import { FileIo } from "./file-io.ts";
import type { IoPool } from "./io-pool.ts";
import { OverlayDisk } from "./overlay-disk.ts";
import { SECTOR_BYTES } from "./storage.ts";

/** Where an image by the containerDisk convention has its disk: the one file in this directory. */
const IMAGE_DIRECTORY = "disk";
/** More than any image, and the map of clusters stays small. */
const SIZE_LIMIT_BYTES = 64 * 2 ** 40;

export interface ImageSource {
  readonly imageRoot: string;
  /** Inside `imageRoot`; default: the one file in "disk". */
  readonly path?: string;
  readonly overlayPath: string;
}

/** First bytes of files that are no raw disks, though people put them where one is wanted. */
const FOREIGN_FORMATS: readonly {
  readonly magic: readonly number[];
  readonly format: string;
  readonly wayOut: string;
}[] = [
  {
    magic: [0x51, 0x46, 0x49, 0xfb],
    format: "qcow2",
    wayOut: "this version reads raw images only: convert it with `qemu-img convert -O raw`",
  },
  { magic: [0x4b, 0x44, 0x4d, 0x56], format: "VMDK", wayOut: "convert it with `qemu-img convert -O raw`" },
  { magic: [0x76, 0x68, 0x64, 0x78], format: "VHDX", wayOut: "convert it with `qemu-img convert -O raw`" },
  { magic: [0x1f, 0x8b], format: "gzip", wayOut: "decompress it when the image is built" },
  { magic: [0xfd, 0x37, 0x7a, 0x58], format: "xz", wayOut: "decompress it when the image is built" },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], format: "zstd", wayOut: "decompress it when the image is built" },
];

/**
 * Opens the read-only raw disk of an image under a fresh overlay. The disk's size is that of the file, rounded up to
 * whole sectors. Throws DiskError.
 */
export function openImageDisk(name: string, source: ImageSource, pool: IoPool, readOnly: boolean): OverlayDisk {
  const base = openBase(name, source);
  let overlay: OwnedFd | undefined;
  try {
    const baseBytes = fstatSync(base.fd).size;
    if (baseBytes === 0 || baseBytes > SIZE_LIMIT_BYTES)
      throw new DiskError(name, `the image's disk has ${baseBytes} bytes; rebuild the image with a raw disk in /disk`);
    refuseForeignFormat(name, base.fd);
    const sizeBytes = Math.ceil(baseBytes / SECTOR_BYTES) * SECTOR_BYTES;
    overlay = openOverlay(name, source.overlayPath, sizeBytes);
    const held = new ClusterMap();
    if (sizeBytes !== baseBytes) copyLastCluster(base.fd, overlay.fd, baseBytes, held);
    const lane = pool.openLane();
    return new OverlayDisk({
      base: new FileIo(base.fd, lane, true),
      overlay: new FileIo(overlay.fd, lane, true),
      held,
      sizeBytes,
      readOnly,
      lane,
      fds: [base, overlay],
    });
  } catch (error) {
    base[Symbol.dispose]();
    overlay?.[Symbol.dispose]();
    throw error;
  }
}

/** The image is data that anyone may have made: nothing in it leads out of it, and only a regular file is opened. */
function openBase(name: string, source: ImageSource): OwnedFd {
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
    if (!first) throw new DiskError(name, "/disk of the image is empty; put the raw disk there as its only file");
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

/** Only what the guest cannot write is looked at: the base is read-only. */
function refuseForeignFormat(name: string, fd: number): void {
  const start = new Uint8Array(8);
  preadFully(fd, start, 0);
  const foreign = FOREIGN_FORMATS.find(({ magic }) => magic.every((byte, i) => start[i] === byte));
  if (foreign) throw new DiskError(name, `the image's disk is in ${foreign.format} format; ${foreign.wayOut}`);
}

function openOverlay(name: string, path: string, sizeBytes: number): OwnedFd {
  return asDiskError(name, `the overlay ${path} cannot be made`, "check that its volume is writable", () => {
    using fd = openFile(path, { write: true, create: true, noFollow: true });
    if (lockFile(fd.fd, "exclusive") === "taken") throw new DiskError(name, `the overlay ${path} is in use already`);
    ftruncate(fd.fd, 0);
    ftruncate(fd.fd, sizeBytes);
    return new OwnedFd(fd.take());
  });
}

/** So that no read of the base passes its end: the cluster that the padding is in comes from the overlay. */
function copyLastCluster(base: number, overlay: number, baseBytes: number, held: ClusterMap): void {
  const cluster = Math.floor(baseBytes / CLUSTER_BYTES);
  const bytes = new Uint8Array(baseBytes - cluster * CLUSTER_BYTES);
  preadFully(base, bytes, cluster * CLUSTER_BYTES);
  pwriteFully(overlay, bytes, cluster * CLUSTER_BYTES);
  held.add(cluster, cluster);
}
